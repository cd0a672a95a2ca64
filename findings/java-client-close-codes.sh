#!/usr/bin/env bash
# socket.io-client 2.1.2 for Java does not notice that a server closes its WebSocket with a usual code,
# such as 1000 or 1001: it comes back when its ping times out. After 1012 it comes back at once, as its
# okhttp 3.12.12 takes that code for a violation of the protocol, and that is an error, which it notices.
#
# Prints the versions and after which codes it came back within two seconds; fails when that changes.
set -euo pipefail
folder=$(mktemp -d)
server=
trap 'kill $server 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund socket.io@4.8.3 >/dev/null
mkdir -p src/main/java
cat > pom.xml <<'XML'
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>finding</groupId>
  <artifactId>finding</artifactId>
  <version>1</version>
  <properties>
    <maven.compiler.release>17</maven.compiler.release>
    <project.build.sourceEncoding>UTF-8</project.build.sourceEncoding>
  </properties>
  <dependencies>
    <dependency>
      <groupId>io.socket</groupId>
      <artifactId>socket.io-client</artifactId>
      <version>2.1.2</version>
    </dependency>
  </dependencies>
  <build>
    <plugins>
      <plugin>
        <groupId>org.apache.maven.plugins</groupId>
        <artifactId>maven-resources-plugin</artifactId>
        <version>3.3.1</version>
      </plugin>
      <plugin>
        <groupId>org.apache.maven.plugins</groupId>
        <artifactId>maven-compiler-plugin</artifactId>
        <version>3.14.0</version>
      </plugin>
      <plugin>
        <groupId>org.codehaus.mojo</groupId>
        <artifactId>exec-maven-plugin</artifactId>
        <version>3.5.0</version>
        <configuration>
          <executable>echo</executable>
          <commandlineArgs>%classpath</commandlineArgs>
          <outputFile>target/classpath</outputFile>
        </configuration>
      </plugin>
    </plugins>
  </build>
</project>
XML
cat > src/main/java/Client.java <<'JAVA'
import io.socket.client.IO;

public class Client {
    public static void main(String[] args) throws Exception {
        var options = new IO.Options();
        options.transports = new String[] {"websocket"};
        options.reconnectionDelay = 100;
        IO.socket(args[0], options).connect();
    }
}
JAVA
mvn --quiet --batch-mode compile exec:exec >/dev/null
cat > server.cjs <<'JS'
const { spawn } = require("node:child_process");
const { readFileSync } = require("node:fs");
const { Server } = require("socket.io");
const http = require("node:http").createServer();
const server = new Server(http);
const classpath = readFileSync("target/classpath", "utf8").trim();
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const next = () => new Promise((resolve) => server.once("connection", resolve));

/** Whether a client comes back soon whose WebSocket is closed with this code. */
async function comesBack(code) {
  const url = `http://127.0.0.1:${http.address().port}`;
  const client = spawn("java", ["-cp", classpath, "Client", url]);
  const line = await next();
  const again = next();
  line.conn.transport.socket.close(code);
  const back = await Promise.race([again.then(() => true), sleep(2000).then(() => false)]);
  client.kill("SIGKILL");
  return back;
}

http.listen(0, "127.0.0.1", async () => {
  const found = {};
  for (const code of [1000, 1001, 1012]) {
    found[code] = await comesBack(code);
    console.log(`closed with ${code}: ${found[code] ? "came back" : "did not notice"}`);
  }
  const jars = classpath.match(/(socket\.io-client|okhttp)-[\d.]+(?=\.jar)/g);
  console.log(...jars);
  const expected = { 1000: false, 1001: false, 1012: true };
  process.exit(JSON.stringify(found) === JSON.stringify(expected) ? 0 : 1);
});
JS
node server.cjs & server=$!
wait "$server"
