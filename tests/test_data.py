"""Data sets and the loader: items reproducible alone, labels true, each sample once an epoch."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from minseg import data
from minseg.data import digits as digits_module
from minseg.data import shapes as shapes_module
from minseg.data.dataset import Dataset, center_crop
from minseg.data.digits import FIRST_TEST_DIGIT

TOYS = ["shapes", "digits", "digits-hard"]


class Numbered(Dataset):
    """Image i is full of i; its labels (2, 3) count the pixels."""

    name = "numbered"
    channels = 1

    def __init__(self, length):
        super().__init__("train", 0, length)
        self.class_names = [str(k) for k in range(6)]

    def item(self, index):
        return np.full((1, 2, 3), index, np.float32), np.arange(6).reshape(2, 3)


class Mirrored(Dataset):
    """The image repeats its labels, so whatever is done to both must keep them equal."""

    name = "mirrored"
    channels = 1

    def __init__(self, length=40, H=10, W=14):
        super().__init__("train", 0, length)
        self.class_names = [str(k) for k in range(200)]
        self.labels = 1 + np.arange(H * W).reshape(H, W)

    def item(self, index):
        return self.labels[None].astype(np.float32), self.labels


def all_labels(dataset):
    return np.stack([labels for _, labels in dataset])


# ---- toy scenes ----


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_an_item_is_an_image_and_a_label_for_every_pixel(name, split):
    dataset = data.build(name, split, size=(40, 56), length=20)
    assert len(dataset) == 20
    for image, labels in dataset:
        assert image.shape == (dataset.channels, 40, 56)
        assert image.dtype == np.float32
        assert 0 <= image.min() < image.max() <= 1
        assert labels.shape == (40, 56)
        assert labels.dtype == np.int64
        assert set(np.unique(labels)) <= {*range(dataset.num_classes), dataset.void}


@pytest.mark.parametrize("name", TOYS)
def test_any_item_can_be_made_again_alone_and_on_any_thread(name):
    in_turn = list(data.build(name, length=12))
    with ThreadPoolExecutor(4) as pool:
        threaded = list(pool.map(data.build(name, length=12).__getitem__, range(11, -1, -1)))[::-1]
    for (image, labels), (image_again, labels_again) in zip(in_turn, threaded, strict=True):
        assert np.array_equal(image, image_again)
        assert np.array_equal(labels, labels_again)


@pytest.mark.parametrize("name", TOYS)
def test_seed_split_and_index_each_make_another_scene(name):
    scenes = [
        data.build(name)[0],
        data.build(name)[1],
        data.build(name, "test")[0],
        data.build(name, seed=1)[0],
    ]
    for i, (image, _) in enumerate(scenes):
        assert not any(np.array_equal(image, other) for other, _ in scenes[i + 1 :])


def test_no_global_random_state_is_touched():
    before = np.random.get_state(legacy=False)["state"]
    loader = data.Loader(data.build("digits"), 4, augment=data.Digits.augmentations)
    loader.batch(7)
    after = np.random.get_state(legacy=False)["state"]
    assert before["pos"] == after["pos"]
    assert np.array_equal(before["key"], after["key"])


@pytest.mark.parametrize(
    ("name", "background", "void"),
    [("shapes", 0.86, 0.09), ("digits", 0.905, 0.06), ("digits-hard", 0.85, 0.08)],
)
def test_background_void_and_classes_are_as_frequent_as_documented(name, background, void):
    dataset = data.build(name, length=400)
    labels = all_labels(dataset)
    assert abs(np.mean(labels == data.VOID) - void) < 0.01
    counts = np.bincount(labels[labels != data.VOID], minlength=dataset.num_classes)
    shares = counts / counts.sum()
    assert abs(shares[0] - background) < 0.015
    assert shares[1:].min() > 0.6 * shares[1:].mean()
    assert shares[1:].max() < 1.4 * shares[1:].mean()


def test_shapes_void_is_one_pixel_on_both_sides_of_a_border():
    objects = np.array([[0, 0, 0, 1, 1, 1, 2, 2, 2]] * 2)
    expected = np.array([[0, 0, 1, 1, 0, 1, 1, 0, 0]] * 2, bool)
    assert np.array_equal(shapes_module.borders(objects), expected)
    assert np.array_equal(shapes_module.borders(objects.T), expected.T)


def test_shapes_labelled_neighbours_never_differ():
    labels = all_labels(data.build("shapes", length=30))
    for here, there in (
        (labels[:, 1:], labels[:, :-1]),
        (labels[:, :, 1:], labels[:, :, :-1]),
    ):
        both = (here != data.VOID) & (there != data.VOID)
        assert np.array_equal(here[both], there[both])


def test_shapes_colour_says_nothing_about_the_class():
    dataset = data.build("shapes", length=300)
    images = np.stack([image for image, _ in dataset]).transpose(0, 2, 3, 1)
    labels = all_labels(dataset)
    for label in range(1, 5):
        assert np.abs(images[labels == label].mean(axis=0) - 0.5).max() < 0.1


def test_a_shape_hides_what_lies_below_it(monkeypatch):
    everywhere = dict.fromkeys(shapes_module.DISTANCES, lambda u, v, r: 0 * u - 1)
    monkeypatch.setattr(shapes_module, "DISTANCES", everywhere)
    for image, labels in data.build("shapes", length=10):
        assert np.unique(labels).size == 1  # the last shape hides all others, and the ground
        assert labels[0, 0] in range(1, 5)
        assert image.std(axis=(1, 2)).max() < 0.0315  # no texture of the ground shines through


def test_the_shipped_digits_are_the_uci_digits():
    images, labels = data.handwritten_digits()
    assert images.shape == (1797, 8, 8)
    assert images.dtype == np.float32
    assert np.array_equal(np.unique(16 * images), np.arange(17))
    assert (16 * images).sum() == 561718
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 0


def test_the_digits_file_is_made_from_scikit_learn(tmp_path):
    pytest.importorskip("sklearn")
    from minseg.data.make_digits import make

    make(tmp_path / "digits.npz")
    with np.load(tmp_path / "digits.npz") as made, np.load(digits_module.FILE) as shipped:
        assert set(made) == set(shipped) == {"images", "labels"}
        for key in made:
            assert made[key].dtype == shipped[key].dtype == np.uint8
            assert np.array_equal(made[key], shipped[key])


@pytest.mark.parametrize("name", ["digits", "digits-hard"])
def test_train_and_test_scenes_never_share_a_digit(name, monkeypatch):
    images, _ = data.handwritten_digits()
    split_of_digit = (np.arange(1797) >= FIRST_TEST_DIGIT).astype(np.int64)
    monkeypatch.setattr(digits_module, "handwritten_digits", lambda: (images, split_of_digit))
    for label, split in ((1, "train"), (2, "test")):
        labels = all_labels(data.build(name, split, length=200))
        assert set(np.unique(labels)) == {0, label, data.VOID}


def test_no_digit_image_is_in_both_halves():
    images, _ = data.handwritten_digits()
    flat = images.reshape(1797, 64)
    train = {digit.tobytes() for digit in flat[:FIRST_TEST_DIGIT]}
    assert not any(digit.tobytes() in train for digit in flat[FIRST_TEST_DIGIT:])


def test_easy_digits_never_overlap_and_hard_ones_may(monkeypatch):
    monkeypatch.setattr(digits_module, "enlarge", lambda image, scale: np.ones((15, 15)))
    inked = {
        name: [np.count_nonzero(labels) for _, labels in data.build(name, length=60)]
        for name in ("digits", "digits-hard")
    }
    assert {n / 15**2 for n in inked["digits"]} == {1, 2, 3}
    assert any(n % 15**2 for n in inked["digits-hard"])


def test_digits_void_is_the_soft_edge_of_the_ink(monkeypatch):
    monkeypatch.setattr(digits_module, "NOISE", 0)
    for image, labels in data.build("digits", length=20):
        grey = image[0]
        assert np.array_equal(labels == data.VOID, (grey > 0.2) & (grey <= 0.5))
        assert np.array_equal(labels == 0, grey <= 0.2)
        assert np.any(grey > 0.5)


def test_enlarged_digits_keep_their_ink():
    image = np.zeros((8, 8), np.float32)
    image[2:6, 3:5] = 1
    for scale in (2, 3):  # whole scales: every value of the small image returns
        large = digits_module.enlarge(image, scale)
        assert large.max() == 1
        assert abs(large.sum() / scale**2 - image.sum()) < 0.2 * image.sum()


# ---- loader ----


@pytest.mark.parametrize("shuffle", [True, False])
def test_every_sample_is_met_exactly_once_an_epoch(shuffle):
    loader = data.Loader(Numbered(10), 4, shuffle=shuffle)
    for epoch in range(3):
        batches = list(loader.epoch(epoch))
        assert [len(images) for images, _ in batches] == [4, 4, 2]
        met = np.concatenate([images[:, 0, 0, 0] for images, _ in batches])
        assert sorted(met) == list(range(10))
        assert (list(met) == list(range(10))) != shuffle


def test_samples_are_shuffled_not_batches():
    loader = data.Loader(Numbered(40), 4)
    companies = [{frozenset(x[:, 0, 0, 0].tolist()) for x, _ in loader.epoch(e)} for e in range(2)]
    assert not companies[0] & companies[1]


def test_drop_last_leaves_out_the_small_batch():
    loader = data.Loader(Numbered(10), 4, drop_last=True)
    assert len(loader) == 2
    assert [len(images) for images, _ in loader.epoch(0)] == [4, 4]
    with pytest.raises(ValueError, match="leaves no batch of numbered's 10 items"):
        data.Loader(Numbered(10), 11, drop_last=True)


def test_the_batch_of_a_step_is_the_one_the_epoch_yields():
    dataset = data.build("shapes", size=32, length=10)

    def loader():
        return data.Loader(dataset, 4, seed=5, augment=dataset.augmentations)

    straight = [batch for epoch in range(3) for batch in loader().epoch(epoch)]
    for step in reversed(range(9)):
        images, labels = loader().batch(step)
        assert np.array_equal(images, straight[step][0])
        assert np.array_equal(labels, straight[step][1])


def test_batches_have_the_promised_types_and_shapes():
    images, labels = data.Loader(data.build("shapes", size=(32, 40)), 3).batch(0)
    assert images.shape == (3, 3, 32, 40)
    assert images.dtype == np.float32
    assert labels.shape == (3, 32, 40)
    assert labels.dtype == np.int64
    assert images.flags.c_contiguous
    assert labels.flags.c_contiguous


def test_augmentation_changes_from_epoch_to_epoch_and_with_the_seed():
    def images(seed, epoch):
        loader = data.Loader(Mirrored(), 40, seed, [data.flip_horizontal], shuffle=False)
        return next(loader.epoch(epoch))[0]

    assert np.array_equal(images(0, 0), images(0, 0))
    assert not np.array_equal(images(0, 0), images(0, 1))
    assert not np.array_equal(images(0, 0), images(1, 0))


@pytest.mark.parametrize("size", [None, (6, 5), (20, 9)])
def test_flips_and_crops_keep_image_and_labels_aligned(size):
    augment = [data.random_crop(size, pad=2), data.flip_horizontal]
    images, labels = data.Loader(Mirrored(), 40, augment=augment).batch(0)
    assert labels.shape == (40, *(size or (10, 14)))
    images = images[:, 0]
    inside = labels != data.VOID
    assert np.array_equal(images[inside], labels[inside])
    assert np.all(images[~inside] == 0)
    assert np.any(~inside)
    assert np.any(labels[:, :, 0] > labels[:, :, -1])  # some flipped
    assert np.any(labels[:, :, 0] < labels[:, :, -1])  # some not


def test_half_of_the_samples_are_flipped():
    images, labels = data.Loader(Mirrored(400), 400, augment=[data.flip_horizontal]).batch(0)
    assert abs(np.mean(labels[:, 0, 0] == 14) - 0.5) < 0.1
    assert np.array_equal(images[:, 0], labels)


def test_a_padded_crop_shifts_by_up_to_the_padding():
    _, labels = data.Loader(Mirrored(400), 400, augment=[data.random_crop(pad=1)]).batch(0)
    centres = {divmod(int(corner) - 1, 14) for corner in labels[:, 5, 5]}
    assert centres == {(row, column) for row in (4, 5, 6) for column in (4, 5, 6)}


def test_a_crop_smaller_than_the_image_reaches_every_place():
    _, labels = data.Loader(Mirrored(600), 600, augment=[data.random_crop((9, 11))]).batch(0)
    corners = {divmod(int(corner) - 1, 14) for corner in labels[:, 0, 0]}
    assert corners == {(row, column) for row in (0, 1) for column in (0, 1, 2, 3)}


def test_a_centre_crop_takes_the_middle_and_frames_what_is_too_small():
    image, labels = Mirrored(H=3, W=4)[0]
    _, middle = center_crop(image, labels, (1, 2))
    assert middle.tolist() == [[6, 7]]
    image, framed = center_crop(image, labels, (5, 2))
    assert framed.tolist() == [[255, 255], [2, 3], [6, 7], [10, 11], [255, 255]]
    assert image[0, 0].tolist() == [0, 0]


def test_digits_are_not_flipped_and_shapes_are():
    assert data.flip_horizontal in data.build("shapes").augmentations
    for name in ("digits", "digits-hard"):
        dataset = data.build(name)
        assert dataset.augmentations
        assert data.flip_horizontal not in dataset.augmentations


# ---- folders ----


def save(path, array, palette=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    if palette:
        image.putpalette([7 * i % 256 for i in range(768)])
    image.save(path)


@pytest.fixture
def photos(tmp_path):
    """Ten pairs of 8 x 12 pixels: image i is grey level i, its mask class i % 3, and void."""
    folder = tmp_path / "photos"
    for i in range(10):
        mask = np.full((8, 12), i % 3, np.uint8)
        mask[0] = 255
        save(folder / "masks" / f"{i}.png", mask, palette=i % 2 == 0)
        save(folder / "images" / f"{i}.png", np.full((8, 12, 3), i, np.uint8))
    return folder


def numbers(dataset):
    return [round(255 * float(image[0, 1, 0])) for image, _ in dataset]


def test_a_folder_is_read_as_it_was_written(photos):
    dataset = data.build(photos)
    assert (dataset.name, dataset.channels, dataset.size) == ("photos", 3, (8, 12))
    assert dataset.class_names == ["class 0", "class 1", "class 2"]
    for number, (image, labels) in zip(numbers(dataset), dataset, strict=True):
        assert image.shape == (3, 8, 12)
        assert image.dtype == np.float32
        assert labels.dtype == np.int64
        assert np.all(labels[0] == data.VOID)
        assert np.all(labels[1:] == number % 3)
    assert next(data.Loader(dataset, 4).epoch(0))[0].shape == (4, 3, 8, 12)


def test_every_fifth_picture_is_for_testing_unless_lists_say_otherwise(photos):
    assert numbers(data.build(photos, "test")) == [4, 9]
    assert numbers(data.build(photos, "train")) == [0, 1, 2, 3, 5, 6, 7, 8]
    assert numbers(data.build(photos, "train", length=3)) == [0, 1, 2]
    (photos / "test.txt").write_text("7\n2\n\n")
    assert numbers(data.build(photos, "test")) == [7, 2]
    assert numbers(data.build(photos, "train")) == [0, 1, 3, 4, 5, 6, 8, 9]
    (photos / "train.txt").write_text("3\n")
    assert numbers(data.build(photos, "train")) == [3]


def test_class_names_come_from_classes_txt(photos):
    (photos / "classes.txt").write_text("ground\ncat\nhåndtag\ndog\n", "utf-8")
    assert data.build(photos).class_names == ["ground", "cat", "håndtag", "dog"]


def test_grey_folders_have_one_channel_and_mixed_ones_three(photos):
    deep = np.full((8, 12), 65535, np.uint16)
    for i in range(10):
        save(photos / "images" / f"{i}.png", np.full((8, 12), 255, np.uint8) if i else deep)
    dataset = data.build(photos)
    assert dataset.channels == 1
    assert all(np.all(image == 1) and image.shape == (1, 8, 12) for image, _ in dataset)
    save(photos / "images" / "1.png", np.zeros((8, 12, 3), np.uint8))
    assert [image.shape for image, _ in data.build(photos)] == [(3, 8, 12)] * 8


def test_a_size_makes_pictures_of_any_size_fit_one_batch(photos):
    save(photos / "images" / "9.png", np.full((20, 9, 3), 9, np.uint8))
    save(photos / "masks" / "9.png", np.full((20, 9), 2, np.uint8))
    save(photos / "images" / "8.JPG", np.full((5, 30, 3), 8, np.uint8))
    (photos / "images" / "8.png").unlink()
    save(photos / "masks" / "8.png", np.full((5, 30), 2, np.uint8))
    for split, count in (("train", 8), ("test", 2)):
        dataset = data.build(photos, split, size=(6, 10))
        loader = data.Loader(dataset, 8, augment=dataset.augmentations)
        images, labels = loader.batch(0)
        assert images.shape == (count, 3, 6, 10)
        assert labels.shape == (count, 6, 10)
        plain = data.build(photos, split)
        assert plain.size is None
        with pytest.raises(ValueError, match=r"photos has images of different shapes .*a size"):
            data.Loader(plain, 8).batch(0)


def test_pictures_without_a_partner_are_left_out(photos):
    (photos / "masks" / "4.png").unlink()
    (photos / "images" / "9.png").unlink()
    (photos / "images" / "notes.txt").write_text("not an image")
    assert numbers(data.build(photos, "train")) + numbers(data.build(photos, "test")) == [
        *[0, 1, 2, 3, 6, 7, 8],
        5,
    ]


# ---- bad input ----


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"name": "cats"}, ValueError, r"'cats' is neither .*shapes, digits, digits-hard.* folder"),
        ({"split": "val"}, ValueError, r'shapes: split must be "train" or "test", not \'val\''),
        ({"size": 16}, ValueError, "shapes: size must be at least 32, got 16"),
        ({"size": (40, 40, 3)}, ValueError, r"size must be an integer or \(H, W\), not \(40"),
        ({"size": 40.0}, TypeError, "size must be an int, got 40.0"),
        ({"seed": -1}, ValueError, "shapes: seed must be at least 0, got -1"),
        ({"seed": 0.5}, TypeError, "shapes: seed must be an int, got 0.5"),
        ({"length": 0}, ValueError, "shapes: length must be at least 1, got 0"),
    ],
)
def test_build_refuses_what_does_not_fit(arguments, error, sentence):
    with pytest.raises(error, match=sentence):
        data.build(**{"name": "shapes", **arguments})


def test_an_index_outside_is_named():
    dataset = data.build("digits", length=3)
    assert np.array_equal(dataset[-1][0], dataset[np.int64(2)][0])
    with pytest.raises(IndexError, match="no item 3; the train split has 3, from 0 to 2"):
        dataset[3]
    with pytest.raises(TypeError, match="index must be an int, got slice"):
        dataset[:2]


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"batch_size": 0}, ValueError, "Loader: batch_size must be at least 1, got 0"),
        ({"batch_size": "8"}, TypeError, "Loader: batch_size must be an int, got '8'"),
        ({"seed": -2}, ValueError, "Loader: seed must be at least 0, got -2"),
        ({"augment": data.flip_horizontal}, TypeError, "augment must be a sequence of functions"),
        ({"augment": [3]}, TypeError, "augment must be a sequence of functions"),
    ],
)
def test_the_loader_refuses_what_does_not_fit(arguments, error, sentence):
    with pytest.raises(error, match=sentence):
        data.Loader(**{"dataset": Numbered(10), "batch_size": 2, **arguments})


def test_random_crop_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="random_crop: size must be at least 1, got 0"):
        data.random_crop(0)
    with pytest.raises(ValueError, match="random_crop: pad must be at least 0, got -1"):
        data.random_crop(pad=-1)


def test_a_folder_without_its_parts_is_named(photos):
    (photos / "masks").rename(photos / "annotations")
    with pytest.raises(FileNotFoundError, match=r"masks is no folder"):
        data.build(photos)
    (photos / "masks").mkdir()
    with pytest.raises(ValueError, match="none of the 10 images has a mask of the same name"):
        data.build(photos)


def test_a_mask_of_another_size_is_named(photos):
    save(photos / "masks" / "3.png", np.zeros((12, 8), np.uint8))
    with pytest.raises(ValueError, match=r"3\.png: the mask is 12 x 8 .* 3\.png is 8 x 12"):
        data.build(photos)


def test_a_mask_of_colours_is_named(photos):
    save(photos / "masks" / "3.png", np.zeros((8, 12, 3), np.uint8))
    with pytest.raises(ValueError, match=r"3\.png: .* palette or grey .* RGB"):
        data.build(photos)


def test_a_mask_value_that_is_no_class_is_named(photos):
    (photos / "classes.txt").write_text("ground\ncat\n")
    dataset = data.build(photos)
    assert dataset[1][1].max() == data.VOID
    with pytest.raises(ValueError, match=r"2\.png: row 1, column 0 holds 2, .* 2 classes: 0\.\.1"):
        dataset[2]


def test_masks_of_nothing_but_0_and_255_are_refused(photos):
    for i in range(10):
        mask = np.zeros((8, 12), np.uint8)
        mask[2:4] = 255
        save(photos / "masks" / f"{i}.png", mask)
    with pytest.raises(ValueError, match="nothing but 0 and 255"):
        data.build(photos)


def test_masks_with_ids_above_255_are_refused(photos):
    save(photos / "masks" / "3.png", np.full((8, 12), 1000, np.uint16))
    with pytest.raises(ValueError, match=r"its masks hold 1000; class ids are 0\.\.254"):
        data.build(photos)


def test_a_list_with_an_unknown_name_is_named(photos):
    (photos / "test.txt").write_text("3.png\n")
    with pytest.raises(ValueError, match=r"test\.txt: it lists '3\.png', but"):
        data.build(photos, "train")


def test_an_empty_split_is_named(photos):
    for i in range(4, 10):
        (photos / "images" / f"{i}.png").unlink()
    with pytest.raises(ValueError, match="no picture is left for the test split of its 4 pairs"):
        data.build(photos, "test")


def test_two_images_of_one_name_are_named(photos):
    save(photos / "images" / "3.jpg", np.zeros((8, 12, 3), np.uint8))
    with pytest.raises(ValueError, match=r"3\.png: 3\.jpg has the same name"):
        data.build(photos)


def test_a_file_that_is_no_image_is_named(photos):
    (photos / "images" / "3.png").write_text("hello")
    with pytest.raises(ValueError, match=r"3\.png: this file is no image"):
        data.build(photos)


def test_too_few_class_names_are_refused(photos):
    (photos / "classes.txt").write_text("ground\n")
    with pytest.raises(ValueError, match=r"classes\.txt: 2 to 255 names are wanted.* it has 1"):
        data.build(photos)
