"""Streams of noise: no two uses may share one."""

from fiberbnn.streams import Stream


def test_no_two_uses_share_a_stream():
    assert len(Stream.__members__) == len(set(Stream))


def test_there_is_room_for_any_number_of_refinement_steps():
    # Step r takes stream REFINE + r.
    assert max(Stream) == Stream.REFINE
