#!/usr/bin/env bash
set -euo pipefail

url=${HOURGLASS_URL:-http://127.0.0.1:8000}
room=example-curl

# Send a request to the API; its answer.
ask() {
    curl --silent --show-error --fail-with-body \
        --header "Authorization: Bearer ${HOURGLASS_TOKEN:-}" "$@"
}

# Wait for the next event of this name, asking for what has happened since the position $since.
heard() {
    while :; do
        news=$(ask "$url/api/jobs?room=$room&since=$since")
        event=$(echo "$news" | jq --arg name "$1" '[.events[] | select(.event == $name)][0] // empty')
        [ -z "$event" ] || break
        sleep 0.2
    done
    since=$(echo "$news $event" | jq -rs '"\(.[0].epoch):\(.[1].seq)"')
}

# HTTP is in no room: it asks for what it has missed since a position in the room's log.
since=$(ask "$url/api/jobs?room=$room" | jq -r '"\(.epoch):\(.seq)"')
echo joined

ask --data "{\"room\": \"$room\", \"connid\": \"backup\", \"time\": 60}" "$url/api/jobs" >/dev/null
heard started
echo "$event" | jq -r '"started \(.job.connid)"'

ask --no-fail-with-body \
    --data "{\"room\": \"$room\", \"connid\": \"backup\", \"time\": 60}" "$url/api/jobs" |
    jq -r '"refused: \(.error.code)"'

ask --request DELETE "$url/api/jobs/backup?room=$room&reason=enough" >/dev/null
heard killed
echo "$event" | jq -r '"killed \(.connid)"'

ask --data "{\"room\": \"$room\", \"connid\": \"report\", \"time\": 1}" "$url/api/jobs" >/dev/null
heard finished
echo "$event" | jq -r '"finished \(.connid): \(.outcome)"'

ask "$url/api/jobs?room=$room" | jq -r '"running: \(.jobs | length)"'
