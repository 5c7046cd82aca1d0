"""`emlib restore` from folder to report, with a network of seconds: what is written, and who is told what."""

import base64
import hashlib
import io
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from test_own_trouble import promise

import emlib
from emlib.cli.main import main
from emlib.own import order
from emlib.own import plan as own_plan
from emlib.own import restore as module
from emlib.own.blur import Frame, kernel_of
from emlib.own.outputs import scores
from emlib.own.report import _small
from emlib.planning.budgets import Budget, Speeds
from emlib.runtime.tensors import load_tensors, read_notes, write_tensors


def picture(seed, height, width):
    """A few smooth blobs, bytes [H, W]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 8.0
    waves = sum(np.sin(x * a + b) * np.cos(y * c) for a, b, c in rng.uniform(0.3, 1.5, (3, 3)))
    return np.uint8(np.clip(128 + 35 * waves, 0, 255))


def write(folder, name, pixels, alpha=None):
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels if alpha is None else np.dstack([pixels, alpha])).save(file)


NAMES = ["a.png", "sub folder/größe.png", "sub folder/a.png", "<img src=x onerror=alert(1)>.png"]


def prepare(folder, monkeypatch):
    """Grey pictures of two sizes, a third of their pixels transparent; good ones; the truth; a network of seconds."""
    monkeypatch.chdir(folder)
    rng = np.random.default_rng(0)
    for i, name in enumerate(NAMES):
        name = name.replace("/alert", "alert")
        whole = picture(i, *((36, 44) if i % 2 else (40, 34)))
        alpha = np.where(rng.random(whole.shape) < 0.35, 0, 255).astype(np.uint8)
        write(Path("broken"), name, np.where(alpha, whole, 0).astype(np.uint8), alpha)
        write(Path("truth"), name, whole)
    for i in range(3):
        write(Path("clean"), f"{i}.png", picture(100 + i, 40, 40))
    tiny = Budget("small", emlib.UNetConfig(channels=(8, 16), groups=4), 8, 2e-3, 0, 2, 3)
    monkeypatch.setattr("emlib.planning.budgets.BUDGETS", (tiny,))
    monkeypatch.setattr(own_plan, "timed_here", lambda p, device: lambda budget: Speeds(0.2, 0.02, 1e-4))
    monkeypatch.setattr("emlib.runs.progress.clock", lambda: 0.0)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """An empty folder with what `prepare` puts into it; it is the current one."""
    prepare(tmp_path, monkeypatch)
    return tmp_path


WORDS = ["restore", "broken", "--clean", "clean", "--out", "out", "--minutes", "0.5"]


@pytest.fixture(scope="module")
def once(tmp_path_factory, same_start):
    """The folder that `WORDS` write, made once for all tests that begin with a finished one."""
    folder = tmp_path_factory.mktemp("once")
    with pytest.MonkeyPatch.context() as monkeypatch:
        same_start(monkeypatch)
        prepare(folder, monkeypatch)
        assert main(WORDS) == 0
    return folder / "out"


@pytest.fixture
def finished(folders, once):
    """A copy of it, beside what it was made from."""
    shutil.copytree(once, "out")


def sums(folder):
    return {p: (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_mtime_ns) for p in Path(folder).rglob("*.png")}


def test_pictures_come_back_under_their_names_and_in_their_form(folders, capsys):
    before = sums("broken")
    assert main(WORDS) == 0
    assert sums("broken") == before, "the originals are not touched"
    for kind in ("repaired", "draw"):
        found = {p.relative_to(Path("out") / kind).as_posix() for p in (Path("out") / kind).rglob("*.png")}
        assert found == {p.relative_to("broken").as_posix() for p in Path("broken").rglob("*.png")}
    for file in Path("out/repaired").rglob("*.png"):
        broken, fixed = (Image.open(p) for p in (Path("broken") / file.relative_to("out/repaired"), file))
        assert fixed.size == broken.size
        assert np.asarray(fixed)[..., -1].min() == 255, "nothing is missing any more"
    record = json.loads(Path("out/result.json").read_text())
    ways = [row["way"] for row in record["rows"]]
    assert ways[:4] == ["mean", "draw", "nearest pixel", "smooth filling"]
    assert [row["way"] for row in record["rows"] if row.get("recommended")] == [
        min((r for r in record["rows"][:4] if r["way"] != "draw"), key=lambda r: r["withheld_mse"])["way"]
    ]
    said = capsys.readouterr().out
    assert "Take the" in said
    assert "report.html" in said


def test_the_prior_is_a_network_of_the_library(finished):
    assert isinstance(emlib.load_pretrained("out/prior.safetensors"), emlib.UNet)


def test_the_same_order_again_draws_nothing_anew(finished, monkeypatch):
    first = {p: p.read_bytes() for p in Path("out/repaired").rglob("*.png")}
    shutil.rmtree("out/repaired")
    Path("out/run/repaired/00001.safetensors").unlink()
    drawn = []
    real = module.draws
    monkeypatch.setattr(module, "draws", lambda *words: drawn.append((words[4], words[-2])) or real(*words))
    monkeypatch.setattr(own_plan, "timed_here", None)  # the plan is kept
    assert main(WORDS) == 0
    assert drawn[-1] == ([1], "repair")
    assert {p: p.read_bytes() for p in first} == first


def test_repairs_that_are_damaged_or_anothers_are_made_again_to_the_same_bits(finished, capsys):
    first = {p: p.read_bytes() for p in Path("out/repaired").rglob("*.png")}
    files = sorted(Path("out/run/repaired").glob("*"))
    whole = {file: file.read_bytes() for file in files}
    cut, turned, misshapen, infinite = files
    cut.write_bytes(whole[cut][: len(whole[cut]) // 2])
    turned.write_bytes(whole[turned][:-9] + bytes([whole[turned][-9] ^ 1]) + whole[turned][-8:])
    kept = load_tensors(misshapen)[0]
    write_tensors(misshapen, {**kept, "std": kept["std"][:, :-1]})
    kept = load_tensors(infinite)[0]
    write_tensors(infinite, {**kept, "draw": kept["draw"] / 0})
    shutil.rmtree("out/repaired")
    with pytest.warns(UserWarning, match="so its picture is repaired again"):
        assert main(WORDS) == 0
    assert {file: file.read_bytes() for file in files} == whole
    assert {p: p.read_bytes() for p in first} == first
    files[1].unlink()
    files[1].mkdir()
    capsys.readouterr()
    assert main(WORDS) == 2
    assert "00001.safetensors is no file, where a run keeps one; move it away" in capsys.readouterr().err


def test_repairs_by_another_prior_or_of_other_draws_are_made_anew(finished):
    """A prior that the clock cut short goes on with the same command; its repairs must not stay."""
    files = sorted(Path("out/run/repaired").glob("*"))
    whole = {file: file.read_bytes() for file in files}
    draws = read_notes(files[0])["draws"]
    kept = load_tensors(files[0])[0]
    write_tensors(files[0], {key: 0 * x for key, x in kept.items()}, {"prior": "a shorter one", "draws": draws})
    write_tensors(files[1], load_tensors(files[1])[0])  # by a release that kept no notes
    assert main(WORDS) == 0
    assert {file: file.read_bytes() for file in files} == whole
    more = str(int(draws) + 2)
    assert main([*WORDS, "--draws", more]) == 0
    assert {read_notes(file)["draws"] for file in files} == {more}
    assert json.loads(Path("out/result.json").read_text())["settings"]["plan"]["draws"] == int(more)


def test_what_was_seen_stays_beyond_the_scale_too_and_originals_may_be_in_colour(folders):
    """A star is brighter than any end of a scale; of an original that does not fit nothing is scored."""
    rng = np.random.default_rng(0)
    for kind in ("stars", "whole"):
        Path(kind).mkdir()
    for i in range(3):
        sky = 2000 + 10 * picture(i, 36, 40).astype(np.uint16)
        sky[5, 7] = 60000
        gaps = rng.random(sky.shape) < 0.3
        gaps[5, 7] = False
        np.save(f"stars/{i}.npy", np.where(gaps, 0, sky).astype(np.uint16))
        np.save(f"whole/{i}.npy", np.dstack([sky] * 3) if i < 2 else (sky // 256).astype(np.uint8))
    words = ["restore", "stars", "--out", "out", "--missing", "0", "--minutes", "0.5", "--truth", "whole"]
    assert main(words) == 0
    for file in (*Path("out/repaired").iterdir(), *Path("out/draw").iterdir()):
        broken, repaired = np.load(f"stars/{file.name}"), np.load(file)
        assert np.array_equal(repaired[broken > 0], broken[broken > 0])
        assert repaired.min() > 0
    rows = json.loads(Path("out/result.json").read_text())["rows"]
    assert max(row.get("PSNR", 0) for row in rows) > 15  # the filter's; an original of 8 bits would be far off


def test_a_picture_of_which_no_pixel_has_all_its_colours_is_named(folders):
    """A sensor's pattern hides two colours of three everywhere."""
    Path("mosaic").mkdir()
    mask = np.zeros((36, 44, 3), np.uint8)
    for channel, top, left in ((0, 0, 0), (1, 0, 1), (1, 1, 0), (2, 1, 1)):
        mask[top::2, left::2, channel] = 255
    write(Path("mosaic"), "a.png", np.dstack([picture(seed, 36, 44) for seed in range(3)]))
    write(Path("masks"), "a.png", mask)
    wanted = order.Order(Path("mosaic"), Path("out"), start="preprocessed", masks=Path("masks"))
    with pytest.raises(ValueError, match="a.png has no pixel that was seen, in all its colours"):
        order.find(wanted)


def test_clean_squares_are_counted_as_they_are(folders, monkeypatch):
    """Of small pictures there are fewer squares than a plan may ask for; filtered ones are not clean."""
    shutil.rmtree("clean")
    for i in range(3):
        write(Path("clean"), f"{i}.png", picture(100 + i, 32, 32))
    asked = []
    real = module.nearness
    monkeypatch.setattr(module, "nearness", lambda x, clean: asked.append(len(clean)) or real(x, clean))
    assert main(WORDS) == 0
    assert asked == [3, 3]
    assert "<td>clean squares</td><td>3</td>" in Path("out/report.html").read_text()


def test_the_report_shows_large_pictures_no_larger_than_a_page_does():
    page = base64.b64decode(_small(torch.zeros(1, 1500, 2000)).partition(",")[2])
    assert Image.open(io.BytesIO(page)).size == (680, 510)
    assert _small(torch.zeros(1, 16, 12_000)).startswith("data:image/png")


@pytest.mark.parametrize(
    ("noise_std", "blur", "kept"), [(0.0, "", [1, 1, 1, 0]), (0.1, "", [0, 0, 1, 0]), (0.1, "box:3", [0] * 4)]
)
def test_what_stays_is_what_was_seen_or_lies_beyond_the_noise(noise_std, blur, kept):
    """Noise itself crosses the ends of a scale that leaves out a thousandth; a star lies far beyond."""
    y, seen = torch.tensor([[[0.2, 1.2, 9.0, 0.0]]]), torch.tensor([[[True, True, True, False]]])
    frame = Frame(kernel_of(blur) if blur else None)
    done = SimpleNamespace(found=SimpleNamespace(y=[y], seen=[seen], frame=frame, noise_std=noise_std))
    assert module.Done.stays(done, 0).flatten().tolist() == [bool(x) for x in kept]


def test_a_folder_of_another_order_is_refused(finished, capsys):
    assert main([*WORDS, "--noise", "5"]) == 2
    assert "holds a run with" in capsys.readouterr().err
    shutil.copy("broken/a.png", "broken/b.png")
    assert main(WORDS) == 2
    assert "name another folder" in capsys.readouterr().err


def test_the_truth_is_read_only_where_it_is_named(folders, monkeypatch):
    asked = []
    for place in (order, __import__("emlib.own.outputs", fromlist=["read_folder"])):
        real = place.read_folder
        monkeypatch.setattr(place, "read_folder", lambda f, *m, real=real: asked.append(str(f)) or real(f, *m))
    assert main(WORDS) == 0
    assert "truth" not in asked
    shutil.rmtree("out")
    assert main([*WORDS, "--truth", "truth"]) == 0
    assert asked[-1] == "truth"
    rows = json.loads(Path("out/result.json").read_text())["rows"]
    assert rows[0]["PSNR"] > 5
    assert "Against the truth" in Path("out/report.html").read_text()


class Page(HTMLParser):
    """Tags, and every address that they name."""

    def __init__(self):
        super().__init__()
        self.tags, self.addresses, self.handlers = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for key, value in attrs if key in ("src", "href")]
        self.handlers += [key for key, _ in attrs if key.startswith("on")]


def test_the_report_needs_no_network_and_runs_no_file_name(finished):
    page = Page()
    text = Path("out/report.html").read_text()
    page.feed(text)
    assert page.addresses
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert page.handlers == []
    assert page.tags.count("script") == 1
    assert page.tags.count("figure") == len(NAMES)
    assert "&lt;img src=x onerror" in text
    assert "default-src 'none'" in text


@pytest.mark.parametrize("start", ["preprocessed", "gaussian"])
def test_no_clean_picture_is_needed_and_the_report_says_what_that_cost(folders, start, monkeypatch):
    monkeypatch.setattr(module, "fit_gaussian", lambda m, schedule: emlib.fit_gaussian(m, schedule, iterations=1))
    words = ["restore", "broken", "--out", "out", "--minutes", "0.5", "--start", start]
    assert main(words) == 0
    assert "without a clean picture" in Path("out/report.html").read_text()
    assert "copies of your clean" not in Path("out/report.html").read_text()


def test_noise_is_taken_in_the_files_units_or_estimated(folders):
    rng = np.random.default_rng(0)
    for i in range(3):
        noisy = np.clip(picture(i, 40, 40) + 20 * rng.standard_normal((40, 40)), 0, 255)
        write(Path("noisy"), f"{i}.png", np.uint8(noisy))
    assert main(["restore", "noisy", "--clean", "clean", "--out", "out", "--minutes", "0.5", "--noise", "auto"]) == 0
    settings = json.loads(Path("out/result.json").read_text())["settings"]
    assert settings["noise_std"] == pytest.approx(20 * 2 / 255, rel=0.25)
    assert any("was estimated" in said for said in settings["said"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["restore", "nowhere", "--clean", "clean", "--out", "out"], "nowhere"),
        (["restore", "clean", "--clean", "clean", "--out", "out"], "nothing is left to repair"),
        (["restore", "broken", "--clean", "clean", "--out", "broken/out"], "lie in one another"),
        (["restore", "broken", "--clean", "clean", "--out", "out", "--noise", "much"], "a number or auto, got 'much'"),
        (["restore", "broken", "--start", "clean", "--out", "out"], "name a folder of a few good pictures"),
        (["restore", "broken", "--clean", "clean", "--out", "out", "--draws", "1"], "at least two draws"),
        (["restore", "broken", "--clean", "clean", "--out", "out", "--minutes", "0.001"], "are too few for EM"),
        (
            ["restore", "broken", "--clean", "clean", "--out", "out", "--minutes", "inf"],
            "--minutes takes a number above",
        ),
        (["restore", "broken", "--clean", "clean", "--out", "out", "--blur", "box:wide"], "box:SIDE, with numbers"),
        (["restore", "broken", "--clean", "clean", "--out", "out", "--blur", "gaussian:1e308"], "gaussian:STD, got"),
        (
            ["restore", ".", "--clean", "clean", "--out", "../out"],
            "clean lies in ., whose pictures all count as broken",
        ),
        (["restore", "truth", "--clean", "broken", "--noise", "5", "--out", "out"], "can be used as a clean one"),
        (["restore", "broken", "--clean", "clean", "--truth", "empty", "--out", "out"], "empty holds no picture"),
    ],
)
def test_mistakes_are_told_in_a_sentence(folders, capsys, words, said):
    Path("empty").mkdir()
    assert main(words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err


def test_a_strangers_folder_is_repaired_as_far_as_it_can_be_read(folders, capsys):
    """Cut, empty, moving and huge files are named; colour, a printer's colours and sizes of all kinds are taken."""
    broken, colour = Path("broken"), np.dstack([picture(seed, 40, 40) for seed in range(3)])
    (broken / "cut.png").write_bytes((broken / "a.png").read_bytes()[:80])
    (broken / "empty.jpg").write_bytes(b"")
    frames = [Image.fromarray(picture(k, 40, 40)) for k in range(3)]
    frames[0].save(broken / "moving.gif", save_all=True, append_images=frames[1:])
    promise(broken, 12000, 8334)
    Image.fromarray(colour).save(broken / "colour.png")
    Image.fromarray(colour).convert("CMYK").save(broken / "print.jpg")
    assert main(WORDS) == 0
    said, page = capsys.readouterr(), Path("out/report.html").read_text()
    for name in ("cut.png", "empty.jpg", "moving.gif", "x.npy", "x.npz", "x.png", "x.tif"):
        assert f"left out: {name}: " in said.out + said.err
        assert f"<li>{name}: " in page
    taken = {p.relative_to("out/repaired").as_posix() for p in Path("out/repaired").rglob("*.*")}
    assert taken == {name.replace("/alert", "alert") for name in NAMES} | {"colour.png", "print.jpg"}


@pytest.mark.parametrize(
    ("files", "said"),
    [({}, "holds no picture that is read"), ({"a.png": b"", "b.txt": b"x"}, "the first of 1 left out: a.png")],
)
def test_a_folder_with_nothing_to_repair_is_told_in_a_sentence(folders, capsys, files, said):
    Path("others").mkdir()
    for name, content in files.items():
        (Path("others") / name).write_bytes(content)
    assert main(["restore", "others", "--clean", "clean", "--out", "out"]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err
    assert not Path("out").exists()


def test_one_picture_is_enough(folders):
    words = ["restore", "broken/a.png", "--clean", "clean", "--out", "out", "--minutes", "0.5"]
    assert main(words) == 0
    assert [p.name for p in Path("out/repaired").iterdir()] == ["a.png"]


def test_blurred_pictures_are_sharpened_in_their_own_frame(folders):
    kernel = emlib.operators.kernels.gaussian_kernel(1.0)
    for i in range(3):
        x = emlib.data.pixels.from_bytes(picture(i, 46, 46)[None])
        y = emlib.operators.Convolution(kernel)(x)
        write(Path("blurred"), f"{i}.png", emlib.data.pixels.to_pixels(y)[0, 0].numpy())
    words = ["restore", "blurred", "--clean", "clean", "--out", "out", "--minutes", "0.5", "--blur", "gaussian:1"]
    assert main([*words, "--noise", "1"]) == 0
    ways = [row["way"] for row in json.loads(Path("out/result.json").read_text())["rows"]]
    assert ways[2:5] == ["Richardson-Lucy", "Wiener filter", "unsupervised Wiener filter"]
    assert Image.open("out/repaired/0.png").size == Image.open("blurred/0.png").size
    assert main([*words[:-1], "lens"]) == 2


def test_large_pictures_are_scored_at_their_own_size():
    """Shrunk to 64 pixels, fine noise would be gone before LPIPS looks."""
    x = emlib.data.pixels.from_bytes(picture(0, 128, 128)[None])
    noisy = (x + 0.2 * emlib.runtime.rng.randn(emlib.streams(0, "test", [0]), (1, 128, 128))).clamp(-1, 1)
    found = scores(noisy, x)
    assert found["LPIPS"] == pytest.approx(float(emlib.lpips_distance(noisy, x, None)))
    assert found["LPIPS"] > 1.5 * float(emlib.lpips_distance(noisy, x))
