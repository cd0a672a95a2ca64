//! A dashboard in Rust that prints what it hears: see `README.md`.

use std::env::var;
use std::error::Error;
use std::fs::read_to_string;
use std::sync::{Arc, Mutex};
use std::thread::park;

use rust_socketio::{ClientBuilder, Event, Payload, TransportType};
use serde_json::{json, Value};

/// Print an event, and remember the position that it brings.
fn hear(name: &str, event: &Value, since: &Mutex<Value>) {
    match name {
        "snapshot" => {
            println!("snapshot");
            *since.lock().unwrap() = json!({"epoch": event["epoch"], "seq": event["seq"]});
        }
        "started" => {
            println!("started {}", event["job"]["connid"].as_str().unwrap());
            since.lock().unwrap()["seq"] = event["seq"].clone();
        }
        "closing" => println!("closing {}", event["code"].as_str().unwrap()),
        _ => (),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let since = Arc::new(Mutex::new(Value::Null));
    let heard = since.clone();
    let transport = match var("TRANSPORT")?.as_str() {
        "polling" => TransportType::Polling,
        _ => TransportType::Websocket,
    };
    // The client says the same each time it connects: it joins with its position after that.
    let token = read_to_string(var("TOKEN_FILE")?)?;
    let _client = ClientBuilder::new(var("URL")?)
        .transport_type(transport)
        .auth(json!({"token": token, "rooms": []}))
        .on(Event::Connect, move |_, client| {
            let join = json!({"room": "main", "since": *since.lock().unwrap()});
            client.emit("join", join).unwrap();
        })
        .on_any(move |name, payload, _| {
            if let Payload::Text(values) = payload {
                hear(&String::from(name), &values[0], &heard);
            }
        })
        .connect()?;
    loop {
        park();
    }
}
