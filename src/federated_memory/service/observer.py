"""What is told of calls and requests: counts for `/metrics`, lines for the audit log (SPEC: METRICS-1, AUDIT-1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector

from federated_memory.auth.caller import Caller
from federated_memory.auth.events import counts
from federated_memory.logs import request_id
from federated_memory.service.core import Core
from federated_memory.service.status import StatusService

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
_NAMES = (
    "workspace_id", "path", "session_id", "version", "status", "revision", "name", "action", "room", "to", "task_id",
    "attempt", "state", "message_id", "key", "memory_id",
)  # fmt: skip
"""What an audit line may repeat of arguments and results: names and numbers, never text."""


class Observer:
    """One for a server. Thread-safe; a call costs about 10 µs."""

    def __init__(self, core: Core, status: StatusService, open_streams: Callable[[], int] = lambda: 0) -> None:
        self._core = core
        self._status = status
        self.open_streams = open_streams
        self.registry = registry = CollectorRegistry()
        prefix = "federated_memory_"
        self._calls = Counter(prefix + "tool_calls", "Tool calls.", ("tool", "outcome"), registry=registry)
        self._call_seconds = Histogram(
            prefix + "tool_seconds", "How long tool calls took.", ("tool",), registry=registry, buckets=_SECONDS
        )
        self._requests = Counter(
            prefix + "http_requests", "HTTP requests.", ("method", "route", "status"), registry=registry
        )
        self._request_seconds = Histogram(
            prefix + "http_request_seconds", "How long HTTP requests took, streams left out.", ("route",),
            registry=registry, buckets=_SECONDS,
        )  # fmt: skip
        self._received = Counter(prefix + "http_received_bytes", "Bytes of requests' bodies.", registry=registry)
        self._sent = Counter(prefix + "http_sent_bytes", "Bytes of answers' bodies.", registry=registry)
        registry.register(_State(self))
        ProcessCollector(registry=registry)

    def tool_called(
        self, caller: Caller, tool: str, *, writes: bool, outcome: str, seconds: float, about: Mapping[str, object]
    ) -> None:
        self._calls.labels(tool, outcome).inc()
        self._call_seconds.labels(tool).observe(seconds)
        if writes:
            self._audit(caller, tool, outcome, about)

    def request_served(
        self, method: str, route: str, status: int, *, seconds: float | None, received: int, sent: int
    ) -> None:
        """`seconds` None: a stream, whose length says nothing."""
        self._requests.labels(method, route, str(status)).inc()
        self._received.inc(received)
        self._sent.inc(sent)
        if seconds is not None:
            self._request_seconds.labels(route).observe(seconds)

    def route_written(self, caller: Caller | None, what: str, outcome: str, address: str) -> None:
        """A request that writes has ended, or was refused; `caller` None: its token was no good."""
        if caller is None:
            self._core.audit.write(
                who="", role="", address=address, what=what, outcome=outcome, request=request_id.get()
            )
        else:
            self._audit(caller, what, outcome, {})

    def _audit(self, caller: Caller, what: str, outcome: str, about: Mapping[str, object]) -> None:
        told = {key: about[key] for key in _NAMES if isinstance(about.get(key), str | int)}
        self._core.audit.write(
            who=caller.grant.name, role=caller.role, address=caller.address, what=what, outcome=outcome,
            request=request_id.get(), **told,
        )  # fmt: skip

    def text(self, caller: Caller) -> bytes:
        """Everything, in Prometheus' text form. Raises: Forbidden: the caller is no admin."""
        self._core.policy.ensure_role(caller, ("admin",))
        return generate_latest(self.registry)


class _State:
    """What is looked at when somebody asks."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def collect(self) -> Iterable[Metric]:
        core, status = self._observer._core, self._observer._status
        documents, sessions, size = core.root.database.row(
            "SELECT coalesce(sum(documents), 0), coalesce(sum(sessions), 0), coalesce(sum(bytes), 0) FROM counts"
        ) or (0, 0, 0)
        index = status.index()
        for name, help_text, value in (
            ("workspaces", "Workspaces.", len(core.registry.all())),
            ("documents", "Live knowledge documents.", documents),
            ("sessions", "Transcripts.", sessions),
            ("stored_bytes", "Raw bytes of documents and transcripts.", size),
            ("feed_position", "Number of the newest change.", core.root.feed.head()),
            ("feed_epoch", "Epoch of the change feed.", core.root.feed.epoch),
            ("index_lag_changes", "Changes that are not indexed yet.", index.behind),
            ("index_whole", "1: the index holds everything up to its cursor.", int(core.index.state.is_whole)),
            ("disk_free_bytes", "Free on the root's disk.", core.root.free_bytes()),
            ("disk_floor_bytes", "Below it writes are refused.", core.settings.min_free_bytes),
            ("ready", "1: /readyz says yes.", int(not status.reasons())),
            ("open_streams", "Answers without an end of their own.", self._observer.open_streams()),
            ("audit_lines_failed", "Audit lines that the disk refused.", core.audit.failed),
        ):
            yield GaugeMetricFamily("federated_memory_" + name, help_text, float(value))
        refused = CounterMetricFamily("federated_memory_auth", "Refusals.", labels=("event", "reason"))
        for (event, reason), number in counts().items():
            refused.add_metric((event, reason), number)
        yield refused
