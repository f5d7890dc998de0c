"""rq's `send_stop_job_command`: from the call to the death of the job's process, in ms, each time
it reads a line."""

import os
import signal
import subprocess
import sys
import time

from redis import Redis
from rq import Queue
from rq.command import send_stop_job_command



def nap(path):
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    time.sleep(1000)


def alive(pid):
    """A zombie runs no more code."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def main():
    redis = Redis.from_url(os.environ["REDIS_URL"])
    queue = Queue("peers-rq", connection=redis)
    command = [sys.executable, "-m", "rq.cli", "worker", "--url", os.environ["REDIS_URL"], "--quiet", "peers-rq"]
    worker = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=os.setpgrp)
    try:
        print("ready:", flush=True)
        for round, _ in enumerate(sys.stdin):
            path = f"{os.environ['TMPDIR']}/rq-{os.getpid()}-{round}"
            job = queue.enqueue("rq_stop.nap", path, job_timeout=600)
            deadline = time.monotonic() + 30
            while not (os.path.exists(path) and open(path).read()):
                assert time.monotonic() < deadline, "the job doesn't start"
                time.sleep(0.01)
            pid = int(open(path).read())
            os.unlink(path)
            began = time.perf_counter()
            send_stop_job_command(redis, job.id)
            while alive(pid):
                assert time.monotonic() < deadline, "the job doesn't die"
                time.sleep(0.00005)
            print(f"{(time.perf_counter() - began) * 1000:.3f}", flush=True)
    finally:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()


if __name__ == "__main__":
    main()
