#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/websocket.hpp>
#include <cstdlib>
#include <deque>
#include <iostream>
#include <nlohmann/json.hpp>
#include <regex>
#include <stdexcept>
#include <string>

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace websocket = beast::websocket;
using asio::ip::tcp;
using json = nlohmann::json;

const std::string room = "example-cpp";

/// Why a command was not carried out.
struct Refused : std::runtime_error {
    std::string code;

    explicit Refused(const json &error)
        : std::runtime_error(error.at("message")), code(error.at("code")) {}
};

/// A line to the server, as a plain WebSocket at `/ws`.
class Hourglass {
public:
    Hourglass(const std::string &host, const std::string &port, const std::string &token) {
        asio::connect(beast::get_lowest_layer(socket), tcp::resolver(context).resolve(host, port));
        socket.set_option(websocket::stream_base::decorator([&](websocket::request_type &request) {
            if (!token.empty()) request.set(beast::http::field::authorization, "Bearer " + token);
        }));
        socket.handshake(host + ":" + port, "/ws?name=cpp&rooms=");
    }

    /// Give a command; its answer.
    json command(const std::string &name, json fields = json::object()) {
        fields.update({{"route", name}, {"room", room}, {"id", ++id}});
        socket.write(asio::buffer(fields.dump()));
        for (;;) {
            json message = read();
            if (message.contains("event")) {
                events.push_back(message);
            } else if (message.value("ok", false)) {
                return message;
            } else {
                throw Refused(message.at("error"));
            }
        }
    }

    /// The next event of this name.
    json heard(const std::string &name) {
        for (;;) {
            json event = events.empty() ? read() : events.front();
            if (!events.empty()) events.pop_front();
            if (event.value("event", "") == name) return event;
        }
    }

    void close() { socket.close(websocket::close_code::normal); }

private:
    json read() {
        beast::flat_buffer buffer;
        socket.read(buffer);
        return json::parse(beast::buffers_to_string(buffer.data()));
    }

    asio::io_context context;
    websocket::stream<tcp::socket> socket{context};
    std::deque<json> events;  // that came while an answer was waited for
    int id = 0;
};

std::string environment(const char *name, const char *otherwise) {
    const char *value = std::getenv(name);
    return value ? value : otherwise;
}

int main() try {
    std::smatch parts;
    const std::string url = environment("HOURGLASS_URL", "http://127.0.0.1:8000");
    if (!std::regex_match(url, parts, std::regex("http://([^:/]+):(\\d+)/?"))) {
        throw std::invalid_argument("HOURGLASS_URL must be like http://127.0.0.1:8000");
    }
    Hourglass hourglass(parts[1], parts[2], environment("HOURGLASS_TOKEN", ""));

    hourglass.command("join");
    std::cout << "joined" << std::endl;

    hourglass.command("request", {{"connid", "backup"}, {"time", 60}});
    json event = hourglass.heard("started");
    std::cout << "started " << event["job"]["connid"].get<std::string>() << std::endl;

    try {
        hourglass.command("request", {{"connid", "backup"}, {"time", 60}});
    } catch (const Refused &refused) {
        std::cout << "refused: " << refused.code << std::endl;
    }

    hourglass.command("kill", {{"connid", "backup"}, {"reason", "enough"}});
    event = hourglass.heard("killed");
    std::cout << "killed " << event["connid"].get<std::string>() << std::endl;

    hourglass.command("request", {{"connid", "report"}, {"time", 1}});
    event = hourglass.heard("finished");
    std::cout << "finished " << event["connid"].get<std::string>() << ": "
              << event["outcome"].get<std::string>() << std::endl;

    json status = hourglass.command("status");
    std::cout << "running: " << status["jobs"].size() << std::endl;
    hourglass.close();
} catch (const std::exception &error) {
    std::cerr << error.what() << std::endl;
    return 1;
}
