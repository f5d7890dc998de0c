"""Flower with many tasks that it has seen: says `ready: URL` once it lists them all. Wants REDIS_URL, PORT and JOBS."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request

from celery import Celery

URL = os.environ["REDIS_URL"]
PORT = os.environ["PORT"]
JOBS = int(os.environ["JOBS"])
app = Celery("flower_tasks", broker=URL, backend=None)
app.conf.update(
    task_default_queue="peers-flower",
    worker_send_task_events=True,
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)


@app.task(name="quick")
def quick(n):
    return n


def seen():
    url = f"http://127.0.0.1:{PORT}/api/tasks?limit={JOBS}"
    with urllib.request.urlopen(url, timeout=30) as answer:
        return len(json.load(answer))


def main():
    celery = [sys.executable, "-m", "celery", "-A", "flower_tasks"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "preexec_fn": os.setpgrp}
    env = {**os.environ, "FLOWER_UNAUTHENTICATED_API": "true"}
    flower = [*celery, "flower", f"--port={PORT}", "--address=127.0.0.1", f"--max_tasks={JOBS}", "--auto_refresh=False"]
    processes = [subprocess.Popen(flower, env=env, **quiet)]
    try:
        deadline = time.monotonic() + 180
        while True:
            try:
                seen()
                break
            except OSError:
                assert time.monotonic() < deadline, "Flower doesn't answer"
                time.sleep(0.2)
        processes.append(subprocess.Popen([*celery, "worker", "-c", "2", "-l", "error", "--without-gossip"], **quiet))
        for n in range(JOBS):
            quick.delay(n)
        while seen() < JOBS:
            assert time.monotonic() < deadline, "Flower hasn't seen all"
            time.sleep(1)
        os.killpg(processes.pop().pid, signal.SIGKILL)
        print(f"ready: http://127.0.0.1:{PORT}", flush=True)
        sys.stdin.read()
    finally:
        for process in processes:
            os.killpg(process.pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
