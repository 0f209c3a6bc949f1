"""Every bound on what a file may hold has a test that fails without it: pixels, scans, frames, parts, seconds."""

from __future__ import annotations

import pytest

from mmplane.media import audio, container, footage, header, image, video
from mutation import Mutant, check_it_is_killed

from . import test_audio, test_container, test_header, test_image, test_video

IMAGES = [
    Mutant(
        "pixels of an image",
        image._check,
        "if width * height > limits.pixels_max",
        "if False",
        test_image.test_limits_are_enforced_on_the_header,
    ),
    Mutant(
        "sides of an image",
        image._check,
        "if max(width, height) > limits.aspect_max * min(width, height)",
        "if False",
        test_image.test_limits_are_enforced_on_the_header,
    ),
    Mutant(
        "an image without pixels",
        image._check,
        "if width < 1 or height < 1",
        "if False",
        test_image.test_an_image_without_pixels_is_refused,
    ),
    Mutant(
        "pixels of a JPEG's byte",
        image._check,
        "width * height > JPEG_PIXELS_OF_BYTE_MAX * length_bytes",
        "False",
        test_image.test_a_jpeg_that_cannot_hold_its_pixels_is_refused,
    ),
    Mutant(
        "scans of an image",
        image.decode,
        "jpeg_scans(media, limits.scans_max + 1) > limits.scans_max",
        "False",
        test_image.test_a_jpeg_of_many_scans_is_refused,
    ),
    Mutant(
        "the size that was promised",
        image._check_size,
        "if found != promised",
        "if False",
        test_image.test_a_size_that_pillow_sees_otherwise_is_refused,
    ),
    *(
        Mutant(
            f"steps through a {name}",
            function,
            "range(STEPS_MAX)",
            "range(10**9)",
            test_header.test_nothing_loops_longer_than_its_limit,
            (name,),
        )
        for name, function in (("jpeg", header._segments), ("png", header._png), ("gif", header._gif))
    ),
]
CLIPS = [
    Mutant(
        "frames of a clip",
        video.survey,
        "if not (units or keys) and len(shown) > FRAMES_MAX",
        "if False",
        test_video.test_limits_of_the_code,
    ),
    Mutant(
        "seconds of a clip",
        video.survey,
        "if shown[-1] - shown[0] > rules.seconds_max",
        "if False",
        test_video.test_limits,
    ),
    Mutant(
        "sides of a clip",
        video.survey,
        "if max(width, height) > ASPECT_MAX * min(width, height)",
        "if False",
        test_video.test_limits_of_the_code,
    ),
    Mutant(
        "pixels that are decoded of a clip",
        footage.chosen,
        "if pixels_decoded(clip) <= rules.pixels_max",
        "if True",
        test_video.test_a_clip_with_too_much_to_decode,
        (True,),
    ),
    Mutant(
        "a small frame's price",
        footage.pixels_decoded,
        "max(clip.width * clip.height, FRAME_PIXELS_MIN)",
        "clip.width * clip.height",
        test_video.test_a_small_frame_has_a_price_of_its_own,
    ),
    Mutant(
        "how much earlier a frame may be",
        footage.Footage.earlier,
        "> limit_s",
        "< -1",
        test_video.test_fewer_frames_are_taken_where_earlier_ones_are_too_far,
    ),
    Mutant(
        "packets before the first frame",
        video._shown,
        "if size is None and count == DELAY_MAX",
        "if False",
        test_video.test_a_clip_that_does_not_begin_is_refused,
    ),
    Mutant(
        "pixels of frames that grow",
        video._Allowance.take,
        "if self._left < 0",
        "if False",
        test_video.test_frames_that_grow_are_counted,
    ),
    Mutant(
        "pixels of a frame",
        video._stream,
        "if context.width * context.height > PIXELS_MAX",
        "if False",
        test_video.test_frames_that_are_too_large_are_refused_before_one_is_decoded,
    ),
    Mutant(
        "parts of a file",
        container.packets,
        "if count >= most",
        "if False",
        test_container.test_a_file_of_too_many_parts_is_refused,
    ),
    Mutant(
        "codecs",
        container.prepared,
        "context.name not in (*VIDEO_CODECS, *AUDIO_CODECS)",
        "False",
        test_video.test_a_codec_outside_the_list_is_refused,
    ),
]
SOUNDS = [
    Mutant(
        "samples a second, at least",
        audio._checked,
        "limits.rate_min_hz <=",
        "0 <",
        test_audio.test_a_forged_rate,
        (999,),
    ),
    Mutant(
        "samples a second, at most",
        audio._checked,
        "<= limits.rate_max_hz",
        "< 2**40",
        test_audio.test_a_forged_rate,
        (384_001,),
    ),
    Mutant("channels", audio._checked, "<= limits.channels_max", "< 2**40", test_audio.test_too_many_channels),
    Mutant(
        "seconds of a sound",
        audio._check_length,
        "if seconds > limits.seconds_max",
        "if False",
        test_audio.test_a_sound_that_says_it_is_too_long,
    ),
    Mutant(
        "what is no number",
        audio._mixed,
        "if not np.isfinite(block).all()",
        "if False",
        test_audio.test_what_is_no_number_is_no_sound,
        (float("nan"),),
    ),
    Mutant(
        "samples that are counted",
        audio.examine,
        "if count >= enough",
        "if False",
        test_audio.test_no_more_is_read_than_is_heard,
    ),
    Mutant(
        "samples that are decoded",
        audio.decode,
        "if end == samples",
        "if False",
        test_audio.test_no_more_is_read_than_is_heard,
    ),
]


@pytest.mark.parametrize("mutant", IMAGES + CLIPS + SOUNDS, ids=str)
def test_its_test_kills(mutant: Mutant, request: pytest.FixtureRequest) -> None:
    check_it_is_killed(mutant, request)
