"""O05: one alert sent twice.

alice                           bob
                                await alerts.fire("disk is full")
                                if alert in self.sent:
                                await external("send a mail")
await alerts.fire("disk is full")
if alert in self.sent:
await external("send a mail")
                                self.mails.append(alert)
                                self.sent.add(alert)
self.mails.append(alert)
self.sent.add(alert)
-> 2 mails were sent
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Alerts:
    """Sends each alert once."""

    def __init__(self) -> None:
        self.sent: set[str] = set()
        self.mails: list[str] = []

    async def fire(self, alert: str) -> None:
        if alert in self.sent:
            return
        await external("send a mail")
        self.mails.append(alert)
        self.sent.add(alert)


class _ClaimingAlerts(_Alerts):
    async def fire(self, alert: str) -> None:
        if alert in self.sent:
            return
        self.sent.add(alert)
        await external("send a mail")
        self.mails.append(alert)


async def _evaluate(alerts: _Alerts, user: int) -> None:  # noqa: ARG001  # two evaluators
    await alerts.fire("disk is full")


def _sent_once(alerts: _Alerts) -> None:
    assert alerts.mails == ["disk is full"], f"{len(alerts.mails)} mails were sent"


PATTERN = Pattern(
    id="O05",
    title="one alert sent twice",
    mechanism=(
        "Two evaluators look whether an alert was sent, send it, and note that it "
        "was; both have looked before either has noted."
    ),
    fix=("Claim the alert before the first await."),
    areas=(Area.AGENT_STATE,),
    detectors=("explorer", "access", "checkers"),
    source="https://prometheus.io/docs/alerting/latest/high_availability/",
    vulnerable=visits(_Alerts, _evaluate, _sent_once),
    safe=visits(_ClaimingAlerts, _evaluate, _sent_once),
    module=__name__,
    hosted=Hosted(shown=lambda alerts, _: alerts.mails),
)
