"""The parts of a controller that leads, put together over the real runtime, router, evidence and store.

Nothing of it outlives its term: what a part remembers is read from the store again by the next leader.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from functools import partial
from typing import Final

from fastapi import FastAPI

from taxiway_serving import runtimes
from taxiway_serving.controller.alongside import alongside
from taxiway_serving.controller.app import Parts, create_app
from taxiway_serving.controller.commands import Commands
from taxiway_serving.controller.gateways import gateways, unmirrored
from taxiway_serving.controller.outbox import telling
from taxiway_serving.controller.reverifying import Reverifier
from taxiway_serving.controller.roles import ensure_tokens
from taxiway_serving.controller.scaling import Scaler
from taxiway_serving.controller.sensing import Sensing
from taxiway_serving.controller.shadowing import Shadowing
from taxiway_serving.controller.tick import Reconciler
from taxiway_serving.evidence.access_log import AttemptLog
from taxiway_serving.evidence.queries import Queries, Sources
from taxiway_serving.ledger.rewards import SqlRewards
from taxiway_serving.ledger.sql import SqlStore
from taxiway_serving.ledger.store import Store
from taxiway_serving.ledger.term import Term
from taxiway_serving.ledger.timeline import SqlTimeline
from taxiway_serving.routing.router import always_may
from taxiway_serving.runtimes.runtime import Runtime
from taxiway_serving.settings import ServingSettings
from taxiway_serving.shadow.comparator import Comparator, comparing

log = logging.getLogger(__name__)

TICK_PATIENCE_S: Final = 15.0


@contextmanager
def leading(settings: ServingSettings, term: Term | None = None) -> Iterator[FastAPI]:
    """Lead while the context lasts: tick, tell, and answer with the application that is returned.

    Args:
        settings: Of the controller.
        term: In which it leads; None is the only controller.
    """
    with (
        comparing(settings.home, host=settings.shadow_host) as comparator,
        telling(settings, term),
        _wired(settings, comparator, term) as parts,
        ticking(parts.reconciler, settings.tick_s),
    ):
        yield create_app(parts)


@contextmanager
def _wired(settings: ServingSettings, comparator: Comparator, term: Term | None) -> Iterator[Parts]:
    with ExitStack() as stack:
        url, keeps_deliveries = settings.database_url, bool(settings.webhook_url)
        store = stack.enter_context(closing(SqlStore(url, keeps_deliveries=keeps_deliveries, term=term)))
        runtime = stack.enter_context(closing(runtimes.chosen(settings)))
        shadowing = Shadowing(comparator=comparator, runtime=runtime, home=settings.home)
        sensing = stack.enter_context(closing(sense(settings, shadowing, term)))
        may_act = term.check if term else always_may
        routed = stack.enter_context(gateways(settings, store, may_act=may_act))
        scaler = Scaler(store, routed.router.in_flight, time.time, per_replica=settings.in_flight_per_replica)
        reconciler = Reconciler(
            store=store,
            runtime=runtime,
            router=routed.router,
            source=routed.source,
            clock=time.time,
            senses=sensing,
            mirror_to=shadowing.address,
            most_rollouts=settings.most_rollouts,
            chores={
                "rotation of the access logs": routed.rotate,
                "old feedback": lambda: sensing.rewards.prune(now_s=time.time()),
                "number of replicas": lambda: scaler.look(reconciler.lock),
                "old timelines": lambda: sensing.timeline.tidy(now_s=time.time()),
            },
            may_act=may_act,
        )
        yield _answering(settings, store, runtime, reconciler, sensing)


def _answering(
    settings: ServingSettings, store: Store, runtime: Runtime, reconciler: Reconciler, sensing: Sensing
) -> Parts:
    """Return what the HTTP interface speaks for; its tokens are made where there are none."""
    commands = Commands(
        store=store,
        lock=reconciler.lock,
        home=settings.home,
        clock=time.time,
        most_rollouts=settings.most_rollouts,
        rollback_window=settings.rollback_window,
        unmirrored=unmirrored(settings),
        settle=reconciler.settle,
    )
    tokens = ensure_tokens(settings.token_file)
    return Parts(
        store=store,
        commands=commands,
        reconciler=reconciler,
        runtime=runtime,
        token=tokens.operator,
        viewer_token=tokens.viewer,
        reporter_token=tokens.reporter,
        gateway_url=settings.gateway_url,
        rewards=sensing.rewards,
        timeline=sensing.timeline,
        attempts_of=AttemptLog(settings.attempt_log).find,
        runtime_name=settings.runtime,
    )


def sense(settings: ServingSettings, shadowing: Shadowing | None = None, term: Term | None = None) -> Sensing:
    """Return the senses of a controller; the caller closes them."""
    url, sources = settings.database_url, Sources.from_file(settings.metric_sources_file)
    with ExitStack() as opened:
        rewards = SqlRewards(url, retention_s=settings.feedback_retention_s, term=term)
        opened.callback(rewards.close)
        timeline = SqlTimeline(url, term=term)
        opened.pop_all()
    return Sensing(
        rewards=rewards,
        timeline=timeline,
        shadowing=shadowing,
        reverifier=Reverifier(settings.gateway_url),
        queries=Queries(sources),
    )


def ticking(reconciler: Reconciler, tick_s: float) -> AbstractContextManager[None]:
    """Tick in a thread of its own while the context lasts."""
    return alongside("tick", partial(_tick_until, reconciler, tick_s), patience_s=TICK_PATIENCE_S)


def _tick_until(reconciler: Reconciler, tick_s: float, stopped: threading.Event) -> None:
    while not stopped.is_set():
        began = time.monotonic()
        try:
            reconciler.tick()
        except Exception:
            # The loop must outlive any single tick: a controller that stops looking can no longer roll back.
            log.exception("tick failed and is tried again")
        stopped.wait(max(0.05, tick_s - (time.monotonic() - began)))
