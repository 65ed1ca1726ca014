"""What students hand in, in every shape in which it arrives: read, or refused with a sentence."""

import io
import os
import stat
import struct
import sys
import zipfile

import pytest

from minseg.grading.gradebook import Gradebook
from minseg.grading.intake import FILE_BYTES, STUDENT_FILES, cell, handed_in, intake

EXERCISES = ["conv2d", "metrics"]
CODE = "def conv2d(x, w):\n    return x\n"


def write(root, files):
    """Files (text or bytes) below a folder; a folder where the content is None."""
    for name, content in files.items():
        path = root / name
        if content is None:
            path.mkdir(parents=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def zipped(files, **options):
    """The bytes of a zip; names may come twice in a list of pairs."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", **options) as archive:
        for name, content in files.items() if isinstance(files, dict) else files:
            archive.writestr(name, content)
    return data.getvalue()


def by_name(place, **options):
    students, _ = intake(place, EXERCISES, **options)
    return {student.name: student for student in students}


def problem_of(tmp_path, files, exercise="conv2d"):
    """What is said of conv2d where the student anna handed in these files."""
    (anna,) = by_name(
        write(tmp_path, {f"anna/{name}": data for name, data in files.items()})
    ).values()
    handed = anna.work[exercise]
    assert handed.text is None
    assert handed.sha256 == ""
    return handed.problem


@pytest.mark.parametrize(
    "name",
    [
        "anna/conv2d.py",
        "anna/hw1/deeper/conv2d.py",
        "anna/Conv2d.PY",
        "anna/conv2d-1.py",
        "anna/conv2d (1).py",
        "anna_7_assignsubmission_file_/conv2d.py",
        "anna_7_assignsubmission_file/conv2d.py",
        "anna_7_assignsubmission_file_conv2d.py",
        "anna_7_8123_conv2d.py",
        "anna_LATE_7_8123_conv2d-2.py",
    ],
)
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip of the class"])
def test_a_file_is_found_however_the_platform_names_it(tmp_path, name, packed):
    place = write(tmp_path / "class", {name: CODE})
    if packed:
        place = tmp_path / "class.zip"
        place.write_bytes(zipped({name: CODE}))
    (anna,) = by_name(place).values()
    assert (anna.name, anna.number) == ("anna", "7" if "_7_" in name else "")
    assert anna.work["conv2d"].text == CODE
    assert "no file metrics.py was handed in" in anna.work["metrics"].problem


@pytest.mark.parametrize(
    "name",
    ["anna.zip", "anna/work.zip", "anna_7_assignsubmission_file_/a.zip", "anna_7_8_my-hw.zip"],
)
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip of the class"])
def test_a_student_may_hand_in_a_zip(tmp_path, name, packed):
    inner = zipped({"hw/conv2d.py": CODE, "__MACOSX/hw/._conv2d.py": b"\0\5", "hw/": ""})
    place = write(tmp_path / "class", {name: inner})
    if packed:
        place = tmp_path / "class.zip"
        place.write_bytes(zipped({name: inner}))
    assert by_name(place)["anna"].work["conv2d"].text == CODE


def test_the_platform_s_zip_may_lie_in_the_folder(tmp_path):
    inner = zipped({f"{name}_1_assignsubmission_file_/conv2d.py": CODE for name in ("Ann", "Bo")})
    write(tmp_path, {"HW 1-downloaded.zip": inner, ".DS_Store": "x"})
    assert set(by_name(tmp_path)) == {"Ann", "Bo"}


def test_a_student_cannot_hand_in_for_another(tmp_path):
    forged = zipped({"Bo_1_assignsubmission_file_/conv2d.py": "forged"})
    write(tmp_path, {"eve.zip": forged, "Bo_1_assignsubmission_file_/conv2d.py": CODE})
    write(tmp_path, {"eve_3_4_Bo_1_assignsubmission_file_conv2d.py": "forged"})
    found = by_name(tmp_path)
    assert found["Bo"].work["conv2d"].text == CODE
    assert found["eve"].work["conv2d"].text == "forged"


def test_the_parts_of_one_submission_come_together(tmp_path):
    write(tmp_path, {
        "Ann Lee_5_assignsubmission_onlinetext_/onlinetext.html": "<p>",
        "Ann Lee_5_assignsubmission_file_/conv2d.py": CODE,
        "leeann_5_77_metrics.py": CODE,
        "leeann_5_78_conv2d.py": CODE,
    })  # fmt: skip
    found = by_name(tmp_path)
    assert found["Ann Lee"].work["conv2d"].text == CODE
    assert all(handed.text == CODE for handed in found["leeann"].work.values())


def test_everyone_has_a_place_even_with_nothing_to_read(tmp_path):
    write(
        tmp_path,
        {"empty": None, "broken.zip": b"PK\3\4no", "old.rar": b"Rar!", "anna/conv2d.py": CODE},
    )
    found = by_name(tmp_path)
    assert set(found) == {"empty", "broken", "old", "anna"}
    assert "damaged" in found["broken"].work["conv2d"].problem
    assert "use a zip" in found["old"].work["conv2d"].problem
    assert found["empty"].work["conv2d"].problem == "no file conv2d.py was handed in"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b" \n\t\n", "empty"),
        (b"x = 1\nname = 'M\xfcller'\n", "is not UTF-8 text, from line 2 on"),
        (CODE.encode("utf-16"), "zero bytes"),
        (b"x = '\0'", "zero bytes"),
        (b"#" * (FILE_BYTES + 1), "larger than 1 MB"),
    ],
)
def test_a_file_that_is_no_text_is_refused(tmp_path, content, said):
    assert said in problem_of(tmp_path, {"conv2d.py": content})
    assert said in problem_of(tmp_path / "zip", {"all.zip": zipped({"conv2d.py": content})})


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    data = CODE.encode("utf-8-sig")
    anna = by_name(write(tmp_path, {"anna/conv2d.py": data}))["anna"]
    assert anna.work["conv2d"].text == CODE


def test_what_was_handed_in_instead_is_named(tmp_path):
    said = problem_of(tmp_path, {"homework.ipynb": "{}", "my_conv.py": CODE})
    assert said == "no file conv2d.py was handed in (there is homework.ipynb, my_conv.py)"


@pytest.mark.parametrize(
    "files",
    [
        {"conv2d.py": CODE, "again/conv2d.py": CODE},
        {"conv2d.py": CODE, "conv2d-1.py": CODE},
        {"conv2d.py": CODE, "a.zip": zipped({"conv2d.py": CODE})},
    ],
)
def test_a_file_handed_in_twice_is_nobody_s_to_choose(tmp_path, files):
    assert "handed in 2 times" in problem_of(tmp_path, files)


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_links_are_not_followed(tmp_path):
    secret = tmp_path / "secret"
    write(secret, {"conv2d.py": CODE})
    place = tmp_path / "class"
    write(place, {"bob/notes.txt": "x"})
    (place / "anna").symlink_to(secret)
    (place / "bob" / "conv2d.py").symlink_to(secret / "conv2d.py")
    (place / "bob" / "more").symlink_to(secret)
    os.mkfifo(place / "bob" / "metrics.py")
    found = by_name(place)
    assert "link" in found["anna"].work["conv2d"].problem
    assert found["bob"].work["conv2d"].text is None
    assert "conv2d.py is a link" in found["bob"].work["conv2d"].problem
    assert "is not a regular file" in found["bob"].work["metrics"].problem


# Archives that mean harm.


def link_in_zip():
    info = zipfile.ZipInfo("conv2d.py")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return zipped([(info, "/etc/passwd")])


def encrypted():
    data = bytearray(zipped({"conv2d.py": CODE}))
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    return bytes(data)


def with_lying_size():
    """Says 10 bytes, and unpacks to 8 MB."""
    data = bytearray(zipped({"conv2d.py": b"#" * (8 << 20)}, compression=zipfile.ZIP_DEFLATED))
    entry = data.index(b"PK\1\2")
    data[22:26] = data[entry + 24 : entry + 28] = struct.pack("<I", 10)
    return bytes(data)


def twice_the_same_name():
    with pytest.warns(UserWarning, match="Duplicate"):
        return zipped([("conv2d.py", CODE), ("conv2d.py", "other")])


def damaged():
    data = bytearray(zipped({"conv2d.py": CODE * 50}, compression=zipfile.ZIP_DEFLATED))
    data[60] ^= 0xFF
    return bytes(data)


@pytest.mark.parametrize(
    ("archive", "said"),
    [
        (lambda: zipped({"../conv2d.py": CODE}), "leads out of its folder"),
        (lambda: zipped({"/tmp/conv2d.py": CODE}), "leads out of its folder"),
        (lambda: zipped({"C:\\x\\conv2d.py": CODE}), "leads out of its folder"),
        (link_in_zip, "is a link"),
        (encrypted, "is encrypted"),
        (lambda: zipped({"conv2d.py": CODE}, compression=zipfile.ZIP_LZMA), "in an unusual way"),
        (
            lambda: zipped({"conv2d.py": b"#" * (64 << 20)}, compression=zipfile.ZIP_DEFLATED),
            "larger",
        ),
        (with_lying_size, "is damaged"),
        (twice_the_same_name, "handed in 2 times"),
        (damaged, "is damaged"),
        (lambda: zipped({"a.zip": zipped({"conv2d.py": CODE})}), "an archive within an archive"),
        (
            lambda: zipped({f"{n}.txt": "" for n in range(STUDENT_FILES + 1)}),
            "more than 2,000 files",
        ),
        (lambda: b"PK\5\6" + b"\xff" * 18, "is damaged, or no zip"),
        (lambda: b"", "is damaged, or no zip"),
        (lambda: b"\0" * ((16 << 20) + 1), "larger than 16 MB"),
    ],
)
def test_a_hostile_archive_costs_its_own_student_only(tmp_path, archive, said):
    write(tmp_path, {"eve.zip": archive(), "anna/conv2d.py": CODE})
    found = by_name(tmp_path)
    assert said in found["eve"].work["conv2d"].problem
    assert found["eve"].work["conv2d"].text is None
    assert found["anna"].work["conv2d"].text == CODE
    assert sorted(path.name for path in tmp_path.iterdir()) == ["anna", "eve.zip"]


def test_a_folder_with_too_many_files_is_refused(tmp_path):
    write(tmp_path, {f"eve/{n}.txt": "" for n in range(STUDENT_FILES + 1)})
    assert "more than 2,000 files" in by_name(tmp_path)["eve"].work["conv2d"].problem


# Names.


def test_names_are_safe_as_file_names_and_unlike_each_other(tmp_path):
    names = ["a b", "a-b", "a_b", "A_B", "x..", "con", "Zoë Müller", "=1+1", "x" * 200, "a;b"]
    place = write(tmp_path, {"class.zip": zipped({f"{name}/conv2d.py": CODE for name in names})})
    files = [student.file_name for student in by_name(place / "class.zip").values()]
    assert len({name.casefold() for name in files}) == len(names)
    assert all(name.replace("_", "a").replace("-", "a").isalnum() for name in files)
    assert max(map(len, files)) <= 64
    assert "con" not in files
    assert "Zoë_Müller" in files


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux takes such names")
def test_control_characters_in_a_name_are_spelled_out(tmp_path):
    (tmp_path / "a\nb\x1b[31m").mkdir()
    os.mkdir(os.fsencode(tmp_path) + b"/c\xff")
    assert set(by_name(tmp_path)) == {"a\\nb\\x1b[31m", "c\\udcff"}


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1"])
def test_no_spreadsheet_takes_a_name_for_a_formula(tmp_path, name):
    assert cell(name) == f"'{name}"
    assert cell("Ann") == "Ann"
    if name.strip() == name:
        students, _ = intake(write(tmp_path / "in", {f"{name}/conv2d.py": CODE}), EXERCISES)
        Gradebook(tmp_path / "out").write_table(students, EXERCISES)
        table = (tmp_path / "out" / "grades.csv").read_text("utf-8-sig")
        assert f"\n'{name},," in table


# The whole folder.


@pytest.mark.parametrize("files", [{}, {"readme.txt": "x", "conv2d.py": CODE}, {"__MACOSX/x": "x"}])
def test_a_folder_without_submissions_is_named(tmp_path, files):
    with pytest.raises(ValueError, match="holds no submissions: a folder or a zip for each"):
        intake(write(tmp_path / "class", files) if files else tmp_path, EXERCISES)


def test_a_place_that_is_none_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"there is no folder or zip .*nowhere"):
        intake(tmp_path / "nowhere", EXERCISES)
    broken = write(tmp_path, {"class.zip": b"no zip"}) / "class.zip"
    with pytest.raises(ValueError, match=r"class\.zip is damaged, or no zip"):
        intake(broken, EXERCISES)


def test_files_of_nobody_are_told_and_the_grades_are_no_student(tmp_path):
    write(tmp_path, {"anna/conv2d.py": CODE, "list.csv": "x", "grades/grades.csv": "x"})
    students, of_nobody = intake(tmp_path, EXERCISES, leave_out=tmp_path / "grades")
    assert [student.name for student in students] == ["anna"]
    assert of_nobody == ["list.csv"]


def test_a_single_student_s_folder(tmp_path):
    write(tmp_path, {"conv2d.py": CODE, "sub/metrics.py": CODE})
    assert {handed.text for handed in handed_in(tmp_path, EXERCISES).values()} == {CODE}
