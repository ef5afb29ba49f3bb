// The front end of runbook R4, as pm2 runs it in cluster mode: it signs what it sends to the API.
//
// It reads its secrets once, at start: variables that are exported win, then the file, by node's dotenv.
//
//   GET  /             200
//   POST /send/PATH    signs the body with the secret of that path, sends both to the API, and answers as the API did
//   GET  /has/NAME/HEX 200 if SHA-256 of the variable is HEX, else 404
//
// Called as: leather_next.js DOTENV-FILE API-PORT NODE-MODULES, with the socket to listen on in LISTEN_FD.
const [file, api, modules] = process.argv.slice(2);
const crypto = require('crypto');
const http = require('http');
require(require('path').join(modules, 'dotenv')).config({ path: file, quiet: true });

const SECRETS = { '/api/revalidate/': 'REVALIDATE_SECRET', '/api/track-view/': 'ANALYTICS_SECRET' };

function send(path, body, answer) {
  const signature = crypto.createHmac('sha256', process.env[SECRETS[path]]).update(body).digest('hex');
  const headers = { 'X-Signature': signature, 'Content-Length': body.length };
  const request = http.request({ host: '127.0.0.1', port: api, method: 'POST', path, headers, agent: false });
  request.on('response', (response) => {
    response.resume();
    response.on('end', () => answer(response.statusCode));
  });
  request.on('error', (error) => answer(502, String(error)));
  request.end(body);
}

const server = http.createServer((request, response) => {
  const answer = (status, text = '') => {
    response.writeHead(status, { Connection: 'close' });
    response.end(text);
  };
  const [, first, name, wanted] = request.url.split('/');
  if (first === 'has') {
    const found = crypto.createHash('sha256').update(process.env[name] || '').digest('hex');
    return answer(found === wanted ? 200 : 404);
  }
  if (first !== 'send') return answer(200, 'ok');
  const chunks = [];
  request.on('data', (chunk) => chunks.push(chunk));
  request.on('end', () => send(request.url.slice('/send'.length), Buffer.concat(chunks), answer));
});

process.on('SIGTERM', () => server.close(() => process.exit(0)));
server.listen({ fd: Number(process.env.LISTEN_FD) }, () => console.log('ready'));
