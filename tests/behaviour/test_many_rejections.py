"""A batch of bad records is worked through in parts: each is rejected once, the good ones between count in order."""

from pipeline.core.decode import REJECTIONS_MAX
from pipeline.testing import Kit
from tests.behaviour.small_agent import small_agent

ROUNDS = 3 * REJECTIONS_MAX


def test_a_batch_with_more_rejections_than_are_judged_at_once_is_finished_in_order() -> None:
    seen: list[int] = []

    def handler(event: object) -> list[object]:
        seen.append(event.data["user_id"])
        return []

    with Kit(small_agent({"comment.created": handler}), batch_records_max=1000) as kit:
        for number in range(ROUNDS):
            kit.given_raw(b"{")
            kit.given("comment.created", user_id=number, msg="x")
        assert len(kit.rejections()) == ROUNDS
        assert seen == list(range(ROUNDS))
