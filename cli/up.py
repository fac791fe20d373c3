"""`inkqueue up`: the whole service in the foreground, from nothing to the first line that is read."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from cli.child import Program
from cli.commands import CLERK_COMMAND, COURIER_COMMAND, WORKER_COMMAND, api_command, bracketed
from cli.embedded import EmbeddedServer
from cli.embedded_postgres import EmbeddedPostgres
from cli.embedded_valkey import EmbeddedValkey
from cli.errors import CannotStart
from cli.first_line import SampleNotRead, read_first_line, what_is_missing
from cli.greeting import greeting
from cli.log_lines import LogLines
from cli.state_dir import StateDir
from cli.supervisor import StopRequested, Supervisor
from core import accounts, database, identification
from core.errors import InvalidApiKey
from core.settings import Settings, settings

_Result = TypeVar("_Result")

#: How long each may take, seconds; loading a model may mean fetching it first.
_SERVER_READY_S = 60.0
_STEP_S = 300.0
_SERVICE_READY_S = 600.0
#: How often the user hears what is waited for, seconds.
_REMIND_S = 15.0
#: Longest orderly end, seconds: the API answers what is in flight, the worker ends the lines in its rows.
_API_GRACE_S = 30.0
_WORKER_GRACE_S = 35.0


def up(*, host: str, port: int, state_dir: Path, model: str | None) -> None:
    """Start everything and keep it running until Ctrl-C or SIGTERM.

    Raises:
        CannotStart: Something is missing or in use, or a process died too often.
    """
    log = LogLines()
    state = StateDir(state_dir)
    address = f"http://{bracketed(_reachable(host))}:{port}"
    with ExitStack() as stack:
        lock = stack.enter_context(state.held(address, log))
        _check_free(host, port)
        sockets = stack.enter_context(state.sockets())
        supervisor = stack.enter_context(Supervisor(log, lent=[lock]))
        try:
            _start_servers(supervisor, log, state, sockets)
            _set_environment(state, model)
            key = _meanwhile(supervisor, lambda: _open_database(state, log), "Opening the database")
            log.say("starting api, worker, courier and clerk; the models take a while to load")
            _start_service(supervisor, host, port)
            _await_service(supervisor, log, address)
            log.show(_meanwhile(supervisor, lambda: _greet(address, key, state), "Reading the sample"))
            supervisor.run()
        except StopRequested:
            log.say("stopping; Ctrl-C again to hurry")
    log.say("stopped")


def _start_servers(supervisor: Supervisor, log: LogLines, state: StateDir, sockets: Path) -> None:
    """Start the embedded servers, but for those that the environment names already."""
    servers: dict[str, EmbeddedServer] = {
        "DATABASE_URL": EmbeddedPostgres(data_folder=state.postgres, socket_folder=sockets),
        "REDIS_URL": EmbeddedValkey(data_folder=state.valkey, socket_folder=sockets),
    }
    embedded = {variable: server for variable, server in servers.items() if not os.environ.get(variable)}
    if embedded:
        log.say(f"starting {' and '.join(server.name for server in embedded.values())} in {state.path}")
    for variable, server in embedded.items():
        supervisor.start(_program(server))
        os.environ[variable] = server.url
    for server in embedded.values():
        if not supervisor.wait_until(server.is_ready, within_s=_SERVER_READY_S):
            raise CannotStart(f"{server.name} does not answer after {_SERVER_READY_S:.0f} s.")


def _program(server: EmbeddedServer) -> Program:
    return Program(
        name=server.name,
        command=server.command,
        prepare=server.prepare,
        stop_signal=server.stop_signal,
        quiet=server.quiet,
    )


def _set_environment(state: StateDir, model: str | None) -> None:
    """Set what the processes of the service find in their environment, and what this one reads settings from."""
    os.environ.setdefault("INKQUEUE_STORAGE_URL", state.images.as_uri())
    os.environ.setdefault("INKQUEUE_LOG_FORMAT", "console")
    if not os.environ.get("INKQUEUE_SECRET_KEY"):
        os.environ["INKQUEUE_SECRET_KEY"] = state.secret_key()
    if model:
        others = [other for other in Settings().models if other != model]
        os.environ["INKQUEUE_MODELS"] = ",".join([model, *others])
    # The counts of the API and of the worker meet here; those of an earlier run are of processes that are no more.
    shutil.rmtree(state.metrics, ignore_errors=True)
    state.metrics.mkdir()
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(state.metrics)
    os.environ.setdefault("INKQUEUE_METRICS", "true")


def _open_database(state: StateDir, log: LogLines) -> str:
    """Bring the database up to date; the first API key, made if there is none that is valid."""
    database.migrate(settings().database_url)
    key = state.read_key()
    with database.transaction() as connection:
        if key is not None:
            try:
                identification.caller_of(connection, key)
                return key
            except InvalidApiKey:
                log.say(f"the key in {state.key_file} is not valid here; a new one is made")
        account_id = accounts.ensure_account(connection, "default")
        key = accounts.create_key(connection, account_id=account_id, name="first key")
    state.write_key(key)
    return key


def _start_service(supervisor: Supervisor, host: str, port: int) -> None:
    # What is started last is ended first: the door closes before those who work behind it.
    supervisor.start(Program(name="courier", command=lambda: COURIER_COMMAND))
    supervisor.start(Program(name="clerk", command=lambda: CLERK_COMMAND))
    supervisor.start(Program(name="worker", command=lambda: WORKER_COMMAND, grace_s=_WORKER_GRACE_S))
    supervisor.start(Program(name="api", command=lambda: api_command(host, port), grace_s=_API_GRACE_S))


def _await_service(supervisor: Supervisor, log: LogLines, address: str) -> None:
    """Wait until the service is ready, saying from time to time what is missing; at most `_SERVICE_READY_S`.

    What takes longer is a model that is still fetched, or a process that keeps dying, and the log has said so.
    """
    began = said = time.monotonic()
    while missing := _meanwhile(supervisor, lambda: what_is_missing(address), "Asking the API"):
        now = time.monotonic()
        if now - began > _SERVICE_READY_S:
            raise CannotStart(f"The service is not ready after {_SERVICE_READY_S:.0f} s: {missing}.")
        if now - said > _REMIND_S:
            log.say(f"{missing}, after {now - began:.0f} s")
            said = now
        supervisor.keep(0.2)


def _greet(address: str, key: str, state: StateDir) -> str:
    try:
        return greeting(address, key, state.key_file, read_first_line(address, key))
    except SampleNotRead as error:
        return greeting(address, key, state.key_file, error)


def _meanwhile(supervisor: Supervisor, work: Callable[[], _Result], what: str) -> _Result:
    """Do something that may block in another thread, while the children are kept alive and signals are heard.

    Raises:
        CannotStart: It takes too long.
    """
    future: Future[_Result] = Future()

    def deliver() -> None:
        try:
            future.set_result(work())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=deliver, daemon=True).start()
    if not supervisor.wait_until(future.done, within_s=_STEP_S):
        raise CannotStart(f"{what} takes longer than {_STEP_S:.0f} s.")
    return future.result()


def _check_free(host: str, port: int) -> None:
    """Find out that the port is taken before anything is started."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CannotStart(f"Port {port} of {host} is in use by another program; choose one with --port.") from error
        raise CannotStart(f"{host}:{port} cannot be served: {error.strerror}.") from error


def _reachable(host: str) -> str:
    """Where a server that listens on all addresses is reached from here."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
