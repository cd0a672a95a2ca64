// What the program in each language does with the client that is made for it.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"

	"hourglass/generated/build/hourglass"
)

func main() {
	config := hourglass.NewConfiguration()
	config.Servers = hourglass.ServerConfigurations{{URL: os.Getenv("HOURGLASS_URL")}}
	api := hourglass.NewAPIClient(config).DefaultAPI
	ctx := context.Background()

	request := func(connid hourglass.RequestConnid) *hourglass.Request {
		return hourglass.NewRequest(connid, 60)
	}
	text, number := "a/b", int64(12)
	named := hourglass.RequestConnid{String: &text}

	weekly := request(named)
	weekly.SetNote("weekly")
	started, response, err := api.PostRequest(ctx).Request(*weekly).Name("go").Execute()
	check(response, err)
	job := started.Job.Job
	fmt.Printf("started %s by %s for %.0f\n", job.Connid, job.By, job.Deadline-job.StartedAt)
	_, response, err = api.PostRequest(ctx).Request(*request(named)).Name("go").Execute()
	if err == nil {
		log.Fatal("the second one was not refused")
	}
	var refusal hourglass.Refusal
	body, _ := io.ReadAll(response.Body)
	if err := json.Unmarshal(body, &refusal); err != nil {
		log.Fatal(err)
	}
	fmt.Println("refused:", response.StatusCode, refusal.Error.Code)
	twelve := request(hourglass.RequestConnid{Int64: &number})
	twelve.SetIfRunning("keep")
	other, response, err := api.PostRequest(ctx).Request(*twelve).Name("go").Execute()
	check(response, err)
	fmt.Println("started", other.Job.Job.Connid)
	status, response, err := api.GetStatus(ctx).Room("main").Execute()
	check(response, err)
	fmt.Println("running:", len(status.Jobs))
	one, response, err := api.GetStatusOne(ctx, "a/b").Execute()
	check(response, err)
	fmt.Println("the same:", one.Jobs[0].Job.Run == job.Run)

	kill, response, err := api.DeleteKill(ctx, "a/b").Reason("enough").Name("go").Execute()
	check(response, err)
	killed := kill.Job.EndedJob
	fmt.Printf("%s via %s: %s\n", killed.State, killed.GetVia(), killed.GetReason())
	stop := hourglass.NewStop(job.Run)
	stop.SetExit(4294967295)
	stopped, response, err := api.PostStopped(ctx, "a/b").Stop(*stop).Name("go").Execute()
	check(response, err)
	fmt.Println("exit", stopped.Job.EndedJob.GetExit())
	history, response, err := api.GetHistory(ctx).Connid("a/b").Limit(1).Execute()
	check(response, err)
	last := history.Jobs[0].EndedJob
	fmt.Println("history:", last.GetNote(), last.GetExit())

	missed, response, err := api.GetStatus(ctx).Since(started.Epoch + ":0").Execute()
	check(response, err)
	for _, event := range missed.Events {
		fmt.Println("event", event.Event)
	}
}

func check(response *http.Response, err error) {
	if err != nil {
		log.Fatal(response, err)
	}
}
