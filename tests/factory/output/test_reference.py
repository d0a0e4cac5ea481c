"""Where an item is, by which an extended plan and a split know it again."""

from __future__ import annotations

import pytest

from factory.output.reference import digest_of, key_for, place_in

URL = "file:///data/part.tar"


def test_the_place_of_an_item_is_its_file_and_what_tells_it_from_others_in_that_file():
    assert place_in("file:///a.png", "") == "file:///a.png"
    assert place_in(URL, '{"stem":"a","image":[512,100]}') == f"{URL}\0stem=a"
    assert place_in(URL, '{"group":1,"row":2}') == f"{URL}\0group=1\0row=2"
    assert place_in("file:///a.png", '{"caption":"a.txt","mask":"a.mask.png"}') == "file:///a.png"


@pytest.mark.parametrize("member", ['{"key":"0001"}', '{"stem":"a","offset":3}', "[1]", '"a"', "3", "{"])
def test_a_member_of_another_notation_is_refused(member):
    """With a key that is not looked at, all items of a file would be one, and `extend` would drop new ones."""
    with pytest.raises(ValueError):
        place_in(URL, member)


def test_keys_differ_in_their_last_part_alone():
    one, other = key_for("photos/a b.png", f"{URL}\0a"), key_for("photos/a b.png", f"{URL}\0b")
    assert one.rpartition("-")[0] == other.rpartition("-")[0] == "photos_a_b_png"
    assert digest_of(one) != digest_of(other) and len(digest_of(one)) == 16
