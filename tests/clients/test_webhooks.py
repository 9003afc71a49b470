"""The README's way to verify a notice: does it take the README's example, and nothing else?"""

import re
from pathlib import Path

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()
KEY = b"an example key of at least 32 bytes"
BODY = b'{"type":"approval.requested"}'


def snippet():
    code = re.search(r"```python\n(import base64.*?)```", README, re.S).group(1)
    names = {}
    exec(code, names)
    return names["verify"]


def headers():
    return dict(re.findall(r"^    (webhook-[a-z]+): (.+)$", README, re.M))


def test_the_example_is_taken():
    sent = headers()
    now = int(sent["webhook-timestamp"])
    assert snippet()(KEY, sent, BODY, now)
    sent["webhook-signature"] = "v1,AAAA " + sent["webhook-signature"]
    assert snippet()(KEY, sent, BODY, now + 300)


def test_nothing_else_is():
    verify, sent = snippet(), headers()
    now = int(sent["webhook-timestamp"])
    assert not verify(KEY, sent, BODY + b" ", now)
    assert not verify(KEY + b"x", sent, BODY, now)
    assert not verify(KEY, sent, BODY, now + 301)
    assert not verify(KEY, sent, BODY, now - 301)
    assert not verify(KEY, sent, BODY)
    for name, value in [
        ("webhook-id", "msg_00000000000000000000000000000002"),
        ("webhook-timestamp", str(now + 1)),
        ("webhook-timestamp", "soon"),
        ("webhook-signature", sent["webhook-signature"].replace("v1,", "v2,")),
        ("webhook-signature", ""),
    ]:
        assert not verify(KEY, {**sent, name: value}, BODY, now), name
