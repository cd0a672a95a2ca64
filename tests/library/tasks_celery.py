"""Tasks of Celery that tests have a real worker execute."""

import os
import time

from celery import Celery

app = Celery(
    "tasks",
    broker=os.environ["BROKER"],
    backend=os.environ["BROKER"],
    task_cls="hourglass.queues.celery:JobTask",
)
app.conf.broker_connection_retry_on_startup = True
app.conf.task_default_queue = os.environ["QUEUE"]


def work(begun: str) -> str:
    with open(begun, "a") as file:
        file.write("begun\n")
    time.sleep(60)
    return "done"


@app.task(acks_late=True)
def acks_late(begun: str) -> str:
    return work(begun)


@app.task(autoretry_for=(Exception,), max_retries=3)
def autoretry(begun: str) -> str:
    return work(begun)


@app.task
def steps(begun: str) -> str:
    """In a thread only what ends soon can be interrupted: a sleep goes on to its end."""
    with open(begun, "a") as file:
        file.write("begun\n")
    for _ in range(6000):
        time.sleep(0.01)
    return "done"


@app.task
def quick(value: int) -> int:
    return value * 2
