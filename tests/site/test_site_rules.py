"""A page that weighs too much or asks others for anything is seen in the built site."""

import site_rules

PAGE = '<link rel="stylesheet" href="{css}"><script src="a.js"></script><img src="data:image/png;base64,AA">'


def _site(tmp_path, css="style.css", weight=10):
    (tmp_path / "style.css").write_text("x" * weight)
    (tmp_path / "a.js").write_text("y" * 5)
    (tmp_path / "index.html").write_text(PAGE.format(css=css))
    return tmp_path


def test_a_page_of_its_own_things_is_fine(tmp_path):
    assert site_rules.check(_site(tmp_path)) == []


def test_a_page_weighs_what_it_loads(tmp_path):
    site = _site(tmp_path)
    page = site / "index.html"
    assert site_rules.page_weight(page, site) == page.stat().st_size + 10 + 5
    (broken,) = site_rules.check(_site(tmp_path, weight=site_rules.MAX_BYTES))
    assert broken.startswith(f"index.html weighs {site_rules.MAX_BYTES + page.stat().st_size + 5} bytes")


def test_what_comes_from_elsewhere_is_named(tmp_path):
    for foreign in ("https://fonts.example.org/a.css", "//cdn.example.org/a.css"):
        (broken,) = site_rules.check(_site(tmp_path, css=foreign))
        assert foreign in broken
