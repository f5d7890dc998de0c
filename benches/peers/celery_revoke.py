"""Celery's `revoke(terminate=True, signal="SIGKILL")`: from the call to the death of the task's process, in ms, each
time it reads a line."""

import os
import signal
import subprocess
import sys
import time

from celery import Celery

URL = os.environ["REDIS_URL"]
app = Celery("peers", broker=URL, backend=URL)
app.conf.update(worker_hijack_root_logger=False, task_default_queue="peers-celery", broker_connection_retry_on_startup=True)


@app.task(name="nap", track_started=True)
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
    command = [sys.executable, "-m", "celery", "-A", "celery_revoke", "worker", "-c", "2", "-l", "error", "--without-gossip"]
    worker = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=os.setpgrp)
    try:
        print("ready:", flush=True)
        for round, _ in enumerate(sys.stdin):
            path = f"{os.environ['TMPDIR']}/celery-{os.getpid()}-{round}"
            task = nap.delay(path)
            deadline = time.monotonic() + 30
            while not (os.path.exists(path) and open(path).read()):
                assert time.monotonic() < deadline, "the task doesn't start"
                time.sleep(0.01)
            pid = int(open(path).read())
            os.unlink(path)
            began = time.perf_counter()
            task.revoke(terminate=True, signal="SIGKILL")
            while alive(pid):
                assert time.monotonic() < deadline, "the task doesn't die"
                time.sleep(0.00005)
            print(f"{(time.perf_counter() - began) * 1000:.3f}", flush=True)
    finally:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()


if __name__ == "__main__":
    main()
