import io.socket.client.IO;
import io.socket.client.Manager;
import io.socket.client.Socket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import org.json.JSONException;
import org.json.JSONObject;

/** A dashboard in Java that prints what it hears: see `README.md`. */
public class Client {
    /** The values of its `auth` are texts: it joins with its position once it is connected. */
    private final Map<String, String> auth = new HashMap<>(Map.of("rooms", ""));

    private final Socket socket;
    private JSONObject since;

    Client() throws Exception {
        var options = new IO.Options();
        options.transports = new String[] {System.getenv("TRANSPORT")};
        options.auth = auth;
        readToken();
        socket = IO.socket(System.getenv("URL"), options);
        socket.io().on(Manager.EVENT_RECONNECT_ATTEMPT, args -> readToken());
        socket.on(Socket.EVENT_CONNECT, args -> join());
        on("snapshot", event -> {
            System.out.println("snapshot");
            since = new JSONObject();
            since.put("epoch", event.get("epoch")).put("seq", event.get("seq"));
        });
        on("started", event -> {
            System.out.println("started " + event.getJSONObject("job").getString("connid"));
            since.put("seq", event.get("seq"));
        });
        on("closing", event -> System.out.println("closing " + event.getString("code")));
        socket.connect();
    }

    interface Heard {
        void take(JSONObject event) throws JSONException;
    }

    private void on(String name, Heard heard) {
        socket.on(
                name,
                args -> {
                    try {
                        heard.take((JSONObject) args[0]);
                    } catch (JSONException error) {
                        throw new RuntimeException(error);
                    }
                });
    }

    private void readToken() {
        try {
            auth.put("token", Files.readString(Path.of(System.getenv("TOKEN_FILE"))));
        } catch (java.io.IOException error) {
            throw new RuntimeException(error);
        }
    }

    private void join() {
        var command = new HashMap<String, Object>(Map.of("room", "main"));
        if (since != null) {
            command.put("since", since);
        }
        socket.emit("join", new JSONObject(command));
    }

    public static void main(String[] args) throws Exception {
        new Client();
    }
}
