import io.socket.client.Ack;
import io.socket.client.IO;
import io.socket.client.Socket;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import okhttp3.OkHttpClient;
import org.json.JSONObject;

public class Example {
    private static final String ROOM = "example-java";

    /** Why a command was not carried out. */
    static class Refused extends Exception {
        final String code;

        Refused(JSONObject error) {
            super(error.optString("message"));
            code = error.optString("code");
        }
    }

    private final Socket socket;
    private final Map<String, BlockingQueue<JSONObject>> events =
            Map.of(
                    "started", new LinkedBlockingQueue<>(),
                    "killed", new LinkedBlockingQueue<>(),
                    "finished", new LinkedBlockingQueue<>());

    Example(Socket socket) {
        this.socket = socket;
        events.forEach((name, queue) -> socket.on(name, args -> queue.add((JSONObject) args[0])));
    }

    /** Waits until the server has let us in. */
    void connect() throws Exception {
        var connected = new CompletableFuture<Void>();
        socket.once(Socket.EVENT_CONNECT, args -> connected.complete(null));
        socket.once(
                Socket.EVENT_CONNECT_ERROR,
                args -> connected.completeExceptionally(new Exception("not connected: " + args[0])));
        socket.connect();
        connected.get(10, TimeUnit.SECONDS);
    }

    /** Gives a command; its answer. */
    JSONObject command(String name, Map<String, Object> fields) throws Exception {
        var answered = new CompletableFuture<JSONObject>();
        var object = new JSONObject(new HashMap<>(fields)).put("room", ROOM);
        socket.emit(name, object, (Ack) args -> answered.complete((JSONObject) args[0]));
        var answer = answered.get(10, TimeUnit.SECONDS);
        if (!answer.getBoolean("ok")) {
            throw new Refused(answer.getJSONObject("error"));
        }
        return answer;
    }

    /** The next event of this name. */
    JSONObject heard(String name) throws InterruptedException {
        return events.get(name).take();
    }

    void run() throws Exception {
        connect();
        command("join", Map.of());
        System.out.println("joined");

        command("request", Map.of("connid", "backup", "time", 60));
        System.out.println("started " + heard("started").getJSONObject("job").getString("connid"));

        try {
            command("request", Map.of("connid", "backup", "time", 60));
        } catch (Refused refused) {
            System.out.println("refused: " + refused.code);
        }

        command("kill", Map.of("connid", "backup", "reason", "enough"));
        System.out.println("killed " + heard("killed").getString("connid"));

        command("request", Map.of("connid", "report", "time", 1));
        var finished = heard("finished");
        System.out.println(
                "finished " + finished.getString("connid") + ": " + finished.getString("outcome"));

        var status = command("status", Map.of());
        System.out.println("running: " + status.getJSONArray("jobs").length());
    }

    public static void main(String[] args) throws Exception {
        var url = System.getenv().getOrDefault("HOURGLASS_URL", "http://127.0.0.1:8000");
        var token = System.getenv().getOrDefault("HOURGLASS_TOKEN", "");
        var http = new OkHttpClient();
        var options = new IO.Options();
        options.callFactory = http;
        options.webSocketFactory = http;
        options.transports = new String[] {"websocket"};
        options.auth = Map.of("token", token, "name", "java", "rooms", "");
        var socket = IO.socket(url, options);
        try {
            new Example(socket).run();
        } finally {
            socket.close();
            // Its idle threads would keep the program alive for a minute.
            http.dispatcher().executorService().shutdown();
        }
    }
}
