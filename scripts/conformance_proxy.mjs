// Reverse proxy on a free loopback port: adds the bearer token that the conformance suite cannot send, and passes
// everything else through as it is (Host and Origin too: the suite tests DNS rebinding with them).
//   node conformance_proxy.mjs ORIGIN TOKEN     prints its own origin; ends when standard input closes
import http from 'node:http';

const [origin, token] = process.argv.slice(2);
const { hostname, port } = new URL(origin);
const server = http.createServer((request, response) => {
  const headers = { ...request.headers, authorization: request.headers.authorization ?? `Bearer ${token}` };
  const onward = http.request({ hostname, port, path: request.url, method: request.method, headers }, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
  });
  onward.on('error', () => response.destroy());
  request.pipe(onward);
  response.on('close', () => onward.destroy());
});
server.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`));
process.stdin.on('end', () => process.exit()).resume();
