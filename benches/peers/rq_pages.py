"""rq-dashboard with many jobs that wait: says `ready: URL` once it answers. Wants REDIS_URL, PORT and JOBS."""

import os
import signal
import subprocess
import sys
import time
import urllib.request

from redis import Redis
from rq import Queue

URL = os.environ["REDIS_URL"]
PORT = os.environ["PORT"]
JOBS = int(os.environ["JOBS"])


def main():
    queue = Queue("peers-pages", connection=Redis.from_url(URL))
    queue.enqueue_many([Queue.prepare_data("time.sleep", [n]) for n in range(JOBS)])
    script = os.path.join(os.path.dirname(sys.executable), "rq-dashboard")
    command = [script, "--bind", "127.0.0.1", "--port", PORT, "--redis-url", URL]
    served = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=os.setpgrp)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{PORT}/", timeout=5).close()
                break
            except OSError:
                assert time.monotonic() < deadline, "rq-dashboard doesn't answer"
                time.sleep(0.2)
        print(f"ready: http://127.0.0.1:{PORT}", flush=True)
        sys.stdin.read()
    finally:
        os.killpg(served.pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
