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


@app.task
def plain(begun: str) -> str:
    return work(begun)


@app.task(acks_late=True)
def acks_late(begun: str) -> str:
    return work(begun)


@app.task(autoretry_for=(Exception,), max_retries=3)
def autoretry(begun: str) -> str:
    return work(begun)


@app.task
def quick(value: int) -> int:
    return value * 2
