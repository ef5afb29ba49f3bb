// What node's dotenv reads: a JSON string a line (a file), answered with a JSON object each.
const dotenv = require('dotenv');
const lines = require('fs').readFileSync(0, 'utf8').split('\n').filter((line) => line !== '');
for (const line of lines) console.log(JSON.stringify(dotenv.parse(Buffer.from(JSON.parse(line)))));
