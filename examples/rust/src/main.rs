use std::env;
use std::error::Error;
use std::fmt;
use std::sync::mpsc::{channel, Receiver};
use std::time::Duration;

use rust_socketio::client::Client;
use rust_socketio::{ClientBuilder, Event, Payload, TransportType};
use serde_json::{json, Value};

const ROOM: &str = "example-rust";
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a command was not carried out, as the server says it.
#[derive(Debug)]
struct Refused {
    code: String,
    message: String,
}

impl Error for Refused {}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

/// A line to the server, and what is heard over it.
struct Hourglass {
    socket: Client,
    events: Receiver<(String, Value)>,
}

impl Hourglass {
    fn connect(url: &str, token: &str) -> Result<Self, Box<dyn Error>> {
        let (send_event, events) = channel();
        let (let_in, connected) = channel();
        let refused = let_in.clone();
        let socket = ClientBuilder::new(url)
            .transport_type(TransportType::Websocket)
            .reconnect(false)
            .auth(json!({"token": token, "name": "rust", "rooms": []}))
            .on(Event::Connect, move |_, _| drop(let_in.send(Ok(()))))
            .on(Event::Error, move |why, _| {
                drop(refused.send(Err(format!("{why:?}"))))
            })
            .on_any(move |event, payload, _| drop(send_event.send((event.into(), object(payload)))))
            .connect()?;
        connected.recv_timeout(PATIENCE)??;
        Ok(Self { socket, events })
    }

    /// Give a command; its answer.
    fn command(&self, name: &str, mut fields: Value) -> Result<Value, Box<dyn Error>> {
        fields["room"] = json!(ROOM);
        let (send, answered) = channel();
        let hear = move |payload, _| drop(send.send(object(payload)));
        self.socket.emit_with_ack(name, fields, PATIENCE, hear)?;
        // An acknowledgement comes as an array of what it holds.
        let answer = answered.recv_timeout(PATIENCE)?[0].take();
        if answer["ok"] == true {
            return Ok(answer);
        }
        Err(Box::new(Refused {
            code: text(&answer["error"]["code"]),
            message: text(&answer["error"]["message"]),
        }))
    }

    /// The next event of this name.
    fn heard(&self, name: &str) -> Result<Value, Box<dyn Error>> {
        loop {
            let (kind, event) = self.events.recv_timeout(PATIENCE)?;
            if kind == name {
                return Ok(event);
            }
        }
    }
}

/// The one object that an event or an answer of the server has.
fn object(payload: Payload) -> Value {
    match payload {
        Payload::Text(mut values) => values.swap_remove(0),
        _ => Value::Null,
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn main() -> Result<(), Box<dyn Error>> {
    let url = env::var("HOURGLASS_URL").unwrap_or("http://127.0.0.1:8000".into());
    let token = env::var("HOURGLASS_TOKEN").unwrap_or_default();
    let hourglass = Hourglass::connect(&url, &token)?;

    hourglass.command("join", json!({}))?;
    println!("joined");

    hourglass.command("request", json!({"connid": "backup", "time": 60}))?;
    println!(
        "started {}",
        text(&hourglass.heard("started")?["job"]["connid"])
    );

    let again = hourglass.command("request", json!({"connid": "backup", "time": 60}));
    match again.map_err(|error| error.downcast::<Refused>()) {
        Err(Ok(refused)) => println!("refused: {}", refused.code),
        Err(Err(error)) => return Err(error),
        Ok(_) => return Err("two jobs of one name are running".into()),
    }

    hourglass.command("kill", json!({"connid": "backup", "reason": "enough"}))?;
    println!("killed {}", text(&hourglass.heard("killed")?["connid"]));

    hourglass.command("request", json!({"connid": "report", "time": 1}))?;
    let ended = hourglass.heard("finished")?;
    println!(
        "finished {}: {}",
        text(&ended["connid"]),
        text(&ended["outcome"])
    );

    let status = hourglass.command("status", json!({}))?;
    println!("running: {}", status["jobs"].as_array().map_or(0, Vec::len));
    hourglass.socket.disconnect()?;
    Ok(())
}
