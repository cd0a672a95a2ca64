package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/zishang520/socket.io/clients/socket/v3"
	"github.com/zishang520/socket.io/v3/pkg/types"
)

const room = "example-go"

type fields = map[string]any

// An event tells what has happened to a job.
type event struct {
	Name    string
	Connid  string
	Outcome string
	Job     struct{ Connid string }
}

// An answer is what a command was answered.
type answer struct {
	OK    bool
	Jobs  []struct{ Connid string }
	Error refused
}

// refused says why a command was not carried out.
type refused struct{ Code, Message string }

func (r refused) Error() string { return r.Message }

// A client gives commands and hears events.
type client struct {
	socket *socket.Socket
	events chan event
}

func connect(url, token string) (*client, error) {
	options := socket.DefaultOptions()
	options.SetTransports(types.NewSet(socket.WebSocket))
	options.SetAuth(fields{"token": token, "name": "go", "rooms": []string{}})
	options.SetAutoConnect(false)
	options.SetTimeout(3 * time.Second)
	line, err := socket.Connect(url, options)
	if err != nil {
		return nil, err
	}
	c := &client{line, make(chan event, 100)}
	connected := make(chan error, 2)
	line.Once("connect", func(...any) { connected <- nil })
	line.On("connect_error", func(why ...any) {
		// As long as it is active it tries again by itself.
		if !line.Active() {
			connected <- fmt.Errorf("not connected: %v", why...)
		}
	})
	line.OnAny(func(args ...any) {
		heard := event{Name: args[0].(string)}
		if err := decode(args[1], &heard); err != nil {
			log.Fatal(err)
		}
		c.events <- heard
	})
	line.Connect()
	return c, <-connected
}

// command gives a command and waits for its answer.
func (c *client) command(name string, with fields) (answer, error) {
	with["room"] = room
	answered := make(chan error, 1)
	var found answer
	c.socket.Timeout(10*time.Second).EmitWithAck(name, with)(func(args []any, err error) {
		if err == nil {
			err = decode(args[0], &found)
		}
		answered <- err
	})
	if err := <-answered; err != nil {
		return found, err
	}
	if !found.OK {
		return found, found.Error
	}
	return found, nil
}

// heard waits for the next event of this name.
func (c *client) heard(name string) event {
	for next := range c.events {
		if next.Name == name {
			return next
		}
	}
	panic("unreachable: the channel is never closed")
}

// decode puts what JSON has become into a struct.
func decode(from any, into any) error {
	text, err := json.Marshal(from)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

func main() {
	log.SetFlags(0)
	url := os.Getenv("HOURGLASS_URL")
	if url == "" {
		url = "http://127.0.0.1:8000"
	}
	c, err := connect(url, os.Getenv("HOURGLASS_TOKEN"))
	if err != nil {
		log.Fatal(err)
	}
	defer c.socket.Disconnect()
	must := func(name string, with fields) answer {
		found, err := c.command(name, with)
		if err != nil {
			log.Fatal(err)
		}
		return found
	}

	must("join", fields{})
	fmt.Println("joined")

	must("request", fields{"connid": "backup", "time": 60})
	fmt.Println("started", c.heard("started").Job.Connid)

	var why refused
	if _, err := c.command("request", fields{"connid": "backup", "time": 60}); errors.As(err, &why) {
		fmt.Println("refused:", why.Code)
	}

	must("kill", fields{"connid": "backup", "reason": "enough"})
	fmt.Println("killed", c.heard("killed").Connid)

	must("request", fields{"connid": "report", "time": 1})
	ended := c.heard("finished")
	fmt.Printf("finished %s: %s\n", ended.Connid, ended.Outcome)

	fmt.Println("running:", len(must("status", fields{}).Jobs))
}
