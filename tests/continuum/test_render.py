import matplotlib.image
import numpy as np
import pytest

from continuum.patch_batch import PatchBatch
from continuum.render import (
    colour_limits,
    default_fields,
    render_animation,
    render_membrane,
    render_patches,
    save_figure,
)
from continuum.snapshots import SnapshotInfo, beads_of, read_snapshot, snapshot_writer

SPECIES = ("inner POPC", "inner PAP6", "inner CHOL", "outer CHOL")
BULK = np.array([0.2, 0.04, 0.46, 0.55])


def snapshot_at(folder, index, species=SPECIES, kinds=("GPCR", "arrestin"), amplitude=0.2):
    rng = np.random.default_rng(index)
    rows = columns = 40
    position, state = rng.random((6, 2)) * 40, np.array([0, 0, 0, 1, -1, 1], dtype=np.int8)
    info = SnapshotInfo(
        snapshot_index=index,
        time_us=10.0 * index,
        spacing_nm=1.0,
        parameter_version=0,
        seed=0,
        species=species,
        bulk_density=BULK[: len(species)],
        state_names=kinds,
        state_kinds=kinds,
    )
    path = folder / f"{index:010d}.h5"
    with snapshot_writer(path, info, beads_of(position, state), (rows, columns)) as writer:
        for s in range(len(species)):
            noise = 1 + amplitude * rng.standard_normal((rows, columns))
            writer.write_rows(s, 0, (BULK[s] * noise).astype(np.float32))
    return path


def texts_of(figure):
    found = [figure.get_suptitle(), *(t.get_text() for t in figure.legends[0].get_texts())]
    for panel in figure.axes:
        found += [panel.get_title(), panel.get_xlabel(), panel.get_ylabel()]
        found += [text.get_text() for text in panel.texts]
    return found


def test_a_frame_says_what_it_shows_for_any_proteins(tmp_path):
    snapshot = read_snapshot(snapshot_at(tmp_path, 3))
    texts = texts_of(render_membrane(snapshot))
    assert "t = 30.00 µs · 3 GPCR · 2 arrestin" in texts
    for wanted in ("PAP6, inner leaflet", "CHOL, inner leaflet", "CHOL, outer leaflet"):
        assert wanted in texts
    for wanted in ("x (nm)", "y (nm)", "density / bulk", "GPCR", "arrestin", "5 nm"):
        assert wanted in texts


def test_densities_are_drawn_relative_to_bulk_with_y_upwards(tmp_path):
    snapshot = read_snapshot(snapshot_at(tmp_path, 1))
    image = render_membrane(snapshot, ["inner CHOL"]).axes[0].images[0]
    np.testing.assert_allclose(image.get_array(), snapshot.field("inner CHOL") / 0.46, rtol=1e-6)
    assert image.get_extent() == [0, 40, 0, 40]
    assert image.origin == "lower"


def test_every_bead_is_drawn_at_its_place(tmp_path):
    snapshot = read_snapshot(snapshot_at(tmp_path, 1))
    panel = render_membrane(snapshot, ["inner CHOL"]).axes[0]
    drawn = {tuple(xy) for marks in panel.collections for xy in marks.get_offsets()}
    assert drawn == {tuple(xy) for xy in snapshot.beads.position_nm}


def test_no_text_leaves_the_figure_or_meets_another(tmp_path):
    figure = render_membrane(read_snapshot(snapshot_at(tmp_path, 3)))
    figure.draw_without_rendering()
    width, height = figure.canvas.get_width_height()
    labels = [figure._suptitle, *(text for panel in figure.axes for text in (
        panel.title, panel.xaxis.label, panel.yaxis.label, *panel.texts,
    )), *figure.legends]  # fmt: skip
    boxes = [label.get_window_extent() for label in labels if getattr(label, "_text", "x")]
    for index, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= width
        assert box.y1 <= height
        assert not any(box.overlaps(other) for other in boxes[:index])


def test_a_file_is_a_picture_of_the_asked_resolution(tmp_path):
    figure = render_membrane(read_snapshot(snapshot_at(tmp_path, 3)), ["inner PAP6"])
    save_figure(figure, tmp_path / "a.png", dpi=50)
    picture = matplotlib.image.imread(tmp_path / "a.png")
    size = figure.get_size_inches() * 50
    assert picture.shape[:2] == (int(size[1]), int(size[0]))
    assert len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0)) > 50


def test_a_uniform_field_and_an_empty_membrane_can_be_drawn(tmp_path):
    path = snapshot_at(tmp_path, 0, species=SPECIES[:1], kinds=("A", "B"), amplitude=0.0)
    snapshot = read_snapshot(path)
    low, high = colour_limits([snapshot])["inner POPC"]
    assert low < 1 < high
    save_figure(render_membrane(snapshot), tmp_path / "a.png", dpi=30)


def test_fields_chosen_by_default_are_there_and_differ():
    assert default_fields(SPECIES) == ("inner PAP6", "inner CHOL", "outer CHOL")
    assert default_fields(["inner A", "inner B", "outer A"]) == ("inner A", "inner B", "outer A")
    assert default_fields(["outer A"]) == ("outer A",)
    assert default_fields(["x", "y"]) == ("x", "y")


def test_an_animation_has_a_frame_for_each_snapshot_and_one_colour_range(tmp_path):
    paths = [snapshot_at(tmp_path, index, amplitude=0.1 * (1 + index)) for index in range(3)]
    render_animation(paths, tmp_path / "film.gif", ["inner PAP6"], dpi=30)
    content = (tmp_path / "film.gif").read_bytes()
    assert content.startswith(b"GIF89a")
    assert content.count(b"\x21\xf9\x04") == 3
    each = [colour_limits([read_snapshot(path)])["inner PAP6"] for path in paths]
    low, high = colour_limits([read_snapshot(path) for path in paths])["inner PAP6"]
    assert low == min(limits[0] for limits in each)
    assert high == max(limits[1] for limits in each)


def test_an_animation_that_cannot_be_is_refused_and_nothing_written(tmp_path, monkeypatch):
    path = snapshot_at(tmp_path, 0)
    with pytest.raises(ValueError, match="at least one snapshot"):
        render_animation([], tmp_path / "film.gif")
    with pytest.raises(ValueError, match=r"\.gif or \.mp4, got film\.avi"):
        render_animation([path], tmp_path / "film.avi")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match=r"film\.mp4 needs ffmpeg"):
        render_animation([path], tmp_path / "film.mp4")
    assert list(tmp_path.iterdir()) == [path]


def batch_of(kinds):
    count = len(kinds)
    return PatchBatch(
        patch_id=np.uint64(3 << 20) + np.arange(count, dtype=np.uint64),
        density=np.random.default_rng(0).random((count, 4, 37, 37)).astype(np.float32),
        centre_nm=np.zeros((count, 2)),
        central_state=np.zeros(count, dtype=np.int8),
        n_ras=np.ones(count, dtype=np.uint8),
        n_raf=np.ones(count, dtype=np.uint8),
        kind=np.array(kinds, dtype=np.uint8),
        bead_offset=2 * np.arange(count + 1),
        bead_position_nm=np.random.default_rng(1).uniform(-15, 15, (2 * count, 2)),
        bead_state=np.tile(np.array([0, 1], dtype=np.int8), count),
        time_us=4.0,
        snapshot_index=3,
        parameter_version=0,
    )


def test_a_gallery_shows_the_first_patch_of_each_kind_present(tmp_path):
    batch = batch_of([1, 3, 1, 0])
    figure = render_patches(
        batch, SPECIES, ["inner CHOL", "outer CHOL"], bulk_density=BULK,
        state_kinds=("GPCR", "arrestin"),
    )  # fmt: skip
    images = [panel.images[0].get_array() for panel in figure.axes if panel.images]
    assert len(images) == 6
    for (patch, species), image in zip(
        [(3, 2), (3, 3), (0, 2), (0, 3), (1, 2), (1, 3)], images, strict=True
    ):
        np.testing.assert_allclose(image, batch.density[patch, species] / BULK[species], rtol=1e-6)
    labels = [panel.get_ylabel() for panel in figure.axes if panel.images][::2]
    assert [label.split("\n")[0] for label in labels] == ["no protein", "one GPCR", "several"]
    assert "density / bulk" in texts_of(figure)
    save_figure(figure, tmp_path / "a.png", dpi=30)


def test_a_gallery_without_bulk_has_its_unit_and_needs_patches_and_known_fields():
    figure = render_patches(batch_of([0, 2]), SPECIES)
    assert "density (nm⁻²)" in texts_of(figure)
    with pytest.raises(ValueError, match="at least one patch"):
        render_patches(batch_of([]), SPECIES)
    with pytest.raises(ValueError, match="no density of 'X'"):
        render_patches(batch_of([0]), SPECIES, ["X"])


def test_a_field_that_is_not_there_is_refused(tmp_path):
    snapshot = read_snapshot(snapshot_at(tmp_path, 0), ["inner CHOL"])
    with pytest.raises(ValueError, match="no density of 'inner PAP6'"):
        render_membrane(snapshot, ["inner PAP6"])
    with pytest.raises(ValueError, match="at least one field"):
        render_membrane(snapshot, [])
