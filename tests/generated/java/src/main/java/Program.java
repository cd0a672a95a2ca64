import org.openapitools.client.ApiClient;
import org.openapitools.client.ApiException;
import org.openapitools.client.api.DefaultApi;
import org.openapitools.client.model.Answer;
import org.openapitools.client.model.EndedJob;
import org.openapitools.client.model.Event;
import org.openapitools.client.model.Job;
import org.openapitools.client.model.Refusal;
import org.openapitools.client.model.Request;
import org.openapitools.client.model.RequestConnid;
import org.openapitools.client.model.Stop;

/** What the program in each language does with the client that is made for it. */
public class Program {
  public static void main(String[] arguments) throws Exception {
    ApiClient client = new ApiClient();
    client.updateBaseUri(System.getenv("HOURGLASS_URL"));
    DefaultApi api = new DefaultApi(client);

    Answer started = api.postRequest(request(new RequestConnid("a/b")).note("weekly"), "java");
    Job job = started.getJob().getJob();
    double time = job.getDeadline() - job.getStartedAt();
    System.out.printf("started %s by %s for %.0f%n", job.getConnid(), job.getBy(), time);
    try {
      api.postRequest(request(new RequestConnid("a/b")), "java");
    } catch (ApiException error) {
      Refusal refusal = client.getObjectMapper().readValue(error.getResponseBody(), Refusal.class);
      System.out.println("refused: " + error.getCode() + " " + refusal.getError().getCode());
    }
    Request twelve = request(new RequestConnid(12L)).ifRunning(Request.IfRunningEnum.KEEP);
    Answer other = api.postRequest(twelve, "java");
    System.out.println("started " + other.getJob().getJob().getConnid());
    System.out.println("running: " + api.getStatus("main", null, null, null).getJobs().size());
    Job one = api.getStatusOne("a/b", null, null, null).getJobs().get(0).getJob();
    System.out.println("the same: " + one.getRun().equals(job.getRun()));

    EndedJob killed = api.deleteKill("a/b", null, null, "enough", "java").getJob().getEndedJob();
    System.out.println(killed.getState() + " via " + killed.getVia() + ": " + killed.getReason());
    Answer stopped = api.postStopped("a/b", new Stop().run(job.getRun()).exit(4294967295L), "java");
    System.out.println("exit " + stopped.getJob().getEndedJob().getExit());
    EndedJob last = api.getHistory(null, "a/b", null, 1L, null).getJobs().get(0).getEndedJob();
    System.out.println("history: " + last.getNote() + " " + last.getExit());

    String since = started.getEpoch() + ":0";
    for (Event event : api.getStatus(null, null, since, null).getEvents()) {
      System.out.println("event " + event.getEvent());
    }
  }

  private static Request request(RequestConnid connid) {
    return new Request().connid(connid).time(60.0);
  }
}
