"""The protocol of probes."""

import pytest

from clip_unlearn.core.probe import Probe
from clip_unlearn.core.record import Reading


class Count(Probe):
    def measure(self, before, after, request):
        return (Reading(name="weights", value=len(after.weights), low=0, high=0, count=1, better="neither"),)


def test_a_probe_is_settings_and_one_function(tiny_clip):
    (reading,) = Count(data="sandbox").measure(tiny_clip.model, tiny_clip.model, None)
    assert reading.value == len(tiny_clip.model.weights)
    assert (reading.subject, reading.interval) == ("after", "Wilson")
    assert Count.needs_images


def test_a_probe_without_its_function_is_refused():
    with pytest.raises(TypeError, match="abstract"):
        Probe()
