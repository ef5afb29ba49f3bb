"""What python-dotenv reads: a JSON string a line (a file), answered with a JSON object each."""
import io, json, logging, os, sys
from dotenv import dotenv_values
logging.disable(logging.CRITICAL)
os.environ.clear()
for line in sys.stdin:
    values = dotenv_values(stream=io.StringIO(json.loads(line), newline=""))
    print(json.dumps({name: value for name, value in values.items() if value is not None}))
