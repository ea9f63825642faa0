import html.parser
import re

import numpy as np

from seqssvae.show.reasons import Reasons
from seqssvae.show.report import abstaining, write_report
from seqssvae.show.summary import summarise
from tests.support.portraits import EVIL, make_portrait


class Page(html.parser.HTMLParser):
    """The tags, attributes and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.inside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self.inside and self.inside[-1] not in ("script", "style"):
            self.texts.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_texts_are_never_markup() -> None:
    """A sequence that is a script is shown as text."""
    portrait = make_portrait()
    text = write_report(portrait)
    page = Page(text)
    assert page.named("img") == [] and page.named("i") == page.named("b") == []
    assert text.count("window.hurt") == text.count("window.hurt = 1")
    # plotly itself, and the data and settings of each map; no script of a sequence
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", text, re.DOTALL)
    assert not any(script.strip().startswith("window.hurt") for script in scripts)
    confused = sum(pair.examples.count(EVIL) for pair in portrait.confused)
    # three labels' samples, two in transfers, one in a walk; no copy below the samples
    assert page.texts.count(EVIL) == 6 + confused
    assert "seqssvae: <b>mine" in page.texts and "Rows of <i>rows.jsonl" in page.texts
    assert "$x_1$ and $" in page.texts


def test_the_page_says_that_training_learned_from_the_rows() -> None:
    wanted = (
        "Rows of <i>rows.jsonl, from which training learned: what is measured on them is too good"
    )
    assert wanted in Page(write_report(make_portrait(learned=True))).texts


def test_undecided_rows_and_reasons() -> None:
    symbols = [("<b>x", 0.5, "rgba(0, 150, 70, 0.60)"), ("y", -0.25, "rgba(220, 40, 40, 0.30)")]
    page = Page(write_report(make_portrait(reasons=[Reasons("Green: <i>a", symbols)])))
    assert "Green: <i>a" in page.texts and "<b>x" in page.texts
    found = [(a["title"], a["style"]) for a in page.named("span") if "title" in a]
    assert found == [
        ("+0.50", "background-color: rgba(0, 150, 70, 0.60)"),
        ("-0.25", "background-color: rgba(220, 40, 40, 0.30)"),
    ]
    assert "Reasons" not in Page(write_report(make_portrait())).texts
    confidence, is_right = np.array([0.4, 0.6, 0.7, 0.8]), np.array([0, 1, 0, 1], np.bool_)
    assert abstaining(confidence, is_right) == [(0.5, 0.75, 2 / 3), (0.7, 0.5, 0.5)]
    assert "Undecided rows" in page.texts
    assert "Undecided rows" not in Page(write_report(make_portrait(labels=()))).texts


def test_nothing_is_fetched() -> None:
    page = Page(write_report(make_portrait()))
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "embed")
        assert "src" not in attributes, (tag, attributes)
        assert all(not name.startswith("on") for name in attributes)
    (policy,) = [a["content"] or "" for a in page.named("meta") if "http-equiv" in a]
    assert "http" not in policy and "form-action 'none'" in policy
    assert policy.startswith("default-src 'none'")


def test_titles_pictures_and_numbers() -> None:
    page = Page(write_report(make_portrait()))
    titles = [text for text in page.texts if text.startswith(("t-SNE", "PCA"))]
    assert titles == [
        "t-SNE of z",
        "PCA of z (60% and 30% of the variance)",
        "t-SNE of log q(y | x)",
    ]
    pictures = [a["aria-label"] for a in page.named("div") if a.get("role") == "img"]
    assert pictures == [
        "confusion matrix",
        "reliability diagram",
        "lengths of generated sequences and of rows",
        "symbols of generated sequences and of rows",
        "generated sequences that a judge gives their label",
        "KL of each dim of z",
        "ELBO (nats per sequence)",
        "KL of z (nats per sequence)",
        "accuracy, held-out labels",
    ]
    assert "-7.25" in page.texts and "40" in page.texts
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    maps = [id for id in ids if id and "-" in id]
    assert len(set(maps)) == len(maps)


def test_the_page_begins_with_three_sentences_and_then_says_what_each_figure_means() -> None:
    portrait = make_portrait()
    text = write_report(portrait)
    page = Page(text)
    shown = [one for one in page.texts if one.strip()]
    paragraphs = shown[shown.index("seqssvae: <b>mine") + 2 :]  # after the title and the heading
    assert paragraphs[:3] == list(summarise(portrait))
    assert paragraphs[3] == "Training warned: <b>z</b> is ignored"
    (table,) = re.findall(r'<table class="figures stacked">(.*?)</table>', text, re.DOTALL)
    rows = re.findall("<th.*?>(.*?)</th><td.*?>(.*?)</td><td>(.*?)</td>", table)
    assert len(rows) == table.count("<tr>") == 9
    for _, value, meaning in rows:
        assert re.fullmatch(r"-?[\d.]+", value) and len(meaning) > 30


def test_confused_pairs_have_examples_and_generated_rows_their_nearest() -> None:
    portrait = make_portrait()
    text = write_report(portrait)
    shown = [one.strip() for one in Page(text).texts]
    for pair in portrait.confused:
        assert f"{pair.num_rows} ({100 * pair.share:.0f} %)" in shown
        assert {one.strip() for one in pair.examples} <= set(shown)
    assert shown.count("a training row") == 3 and "row 2" in shown
    assert any("the most similar of 1,030 training rows" in one for one in shown)
    lonely = write_report(make_portrait(nearest={}, num_compared=0))
    assert "training rows, by shared n-grams" not in lonely and "a training row" not in lonely


def test_what_shares_z_and_how_a_map_should_look_is_said() -> None:
    shared, apart = "share one z, drawn from the prior", "It should not cluster by label"
    assert all(text in write_report(make_portrait()) for text in (shared, apart))
    read = write_report(make_portrait(z_knows_y=True))
    assert apart not in read and "Clusters by label are expected" in read
    assert apart not in write_report(make_portrait(()))
    assert shared not in write_report(make_portrait(kl_nats=np.zeros(0), walks=[]))


def test_pictures_have_the_text_colour_of_the_page() -> None:
    text = write_report(make_portrait())
    assert "#010203" not in text and "currentColor" in text
    assert "prefers-color-scheme: dark" in text


def test_only_what_a_run_has_is_shown() -> None:
    plain = Page(write_report(make_portrait((), metrics=[], summary={}, free_bits=0.0)))
    shown = " ".join(plain.texts)
    assert "Transfer" not in shown and "Classification" not in shown and "logits" not in shown
    assert "No evaluations were recorded." in shown and "Interpolation" in shown
    flat = write_report(make_portrait((), kl_nats=np.zeros(0), walks=[]))
    assert "Latent space" not in flat and len(flat) < 300_000  # plotly is not needed
