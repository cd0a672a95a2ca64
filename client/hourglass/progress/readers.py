"""The tools whose progress is read.

To add one, run it into a pipe and on a terminal, keep what it prints in tests/cli/captures, and
write patterns that match nothing else: a wrong progress is worse than none. A pattern sees a line
without its colours and without the spaces around it. It has to take linear time (see
tests/doors/test_patterns.py).
"""

import re

from hourglass.progress.reader import Reader

READERS = (
    Reader(
        "tqdm",
        "tqdm 4.70, enlighten 1.14",
        (
            re.compile(
                r"^(?P<label>(?:[^%|]*[^%|\d])?)(?P<percent>\d+)%\|[^|]*\| *"
                r"(?P<note>[\d.]+[kMGTP]?/[\d.]+[kMGTP]?) \[\d"
            ),
        ),
        nested=True,
    ),
    Reader(
        "rich",
        "rich 15.0",
        (re.compile(r"^(?P<label>[^━╺╸]*)[━╺╸]{10,} +(?P<percent>\d+)%(?: |$)"),),
        nested=True,
    ),
    Reader(
        "click",
        "click 8.5",
        (
            re.compile(
                r"^(?P<label>[^\[]*)\[[#-]{10,}\] +"
                r"(?:(?P<percent>\d+)%|(?P<done>\d+)/(?P<total>\d+))(?:  |$)"
            ),
        ),
    ),
    Reader(
        "progressbar2",
        "progressbar2 4.6",
        (re.compile(r"^(?P<percent>\d+)% \((?P<note>\d+ of \d+)\) \|"),),
    ),
    Reader(
        "alive-progress",
        "alive-progress 3.3",
        (re.compile(r"^(?P<label>[^|]*)\|[^|]*\|[^\[|]*\[(?P<percent>\d+)%\] in \d"),),
    ),
    Reader(
        "keras",
        "Keras 3.15",
        (re.compile(r"^(?P<done>\d+)/(?P<total>\d+) ━+ (?P<note>\d.*)"),),
        optional_before=re.compile(r"^Epoch (?P<part>\d+)/(?P<parts>\d+)$"),
    ),
    Reader(
        "pytorch",
        "the lines of PyTorch's examples",
        (
            re.compile(
                r"^Train (?P<label>Epoch: \d+) \[(?P<done>\d+)/(?P<total>\d+) \(\d+%\)\]\s*Loss:"
            ),
        ),
        phases=True,
    ),
    Reader(
        "pytest",
        "pytest 9.2, pytest-xdist 3.8",
        (
            re.compile(
                r"^(?:[^:\s]+ )?[.FEsxXpPR]+ *"
                r"\[ *(?:(?P<percent>\d+)%|(?P<done>\d+)/(?P<total>\d+))\]$"
            ),
            re.compile(
                r"^[^:\s]+::[^%]*[A-Z)] +"
                r"\[ *(?:(?P<percent>\d+)%|(?P<done>\d+)/(?P<total>\d+))\]$"
            ),
            re.compile(
                r"^\[gw\d+\] \[ *(?:(?P<percent>\d+)%|(?P<done>\d+)/(?P<total>\d+))\] [A-Z]+ "
            ),
        ),
    ),
    Reader(
        "git",
        "git 2.39",
        (
            re.compile(
                r"^(?:remote: )?(?P<label>[A-Z][a-z]+ing [a-z -]+): +"
                r"(?P<percent>\d+)% \((?P<note>\d+/\d+)\)"
            ),
        ),
        phases=True,
    ),
    Reader(
        "rsync",
        "rsync 3.2 and 3.5, with --progress and --info=progress2",
        (
            re.compile(
                r"^[\d.,]+[KMGT]? +100% +[\d.,]+[kKMGT]?B/s +\d+:\d\d:\d\d "
                r"\((?P<note>xfr#\d+), to-chk=(?P<left>\d+)/(?P<total>\d+)\)"
            ),
            re.compile(
                r"^[\d.,]+[KMGT]? +(?P<percent>\d+)% +[\d.,]+[kKMGT]?B/s +\d+:\d\d:\d\d"
                r"(?: \(xfr#\d+, to-chk=\d+/\d+\))?$"
            ),
        ),
        grows=True,
        ranked=True,
    ),
    Reader(
        "curl",
        "curl 7.88",
        (
            re.compile(
                r"^\d+ +[\d.]+[kMGTP]? +(?P<percent>[1-9]\d*) +[\d.]+[kMGTP]? +\d+ +[\d.]+[kMGTP]?"
                r" +[\d.]+[kMGTP]? +[\d.]+[kMGTP]? +[-\d]+:[-\d]+:[-\d]+ "
            ),
            re.compile(
                r"^\d+ +[\d.]+[kMGTP]? +0 +0 +(?P<percent>[1-9]\d*) +[\d.]+[kMGTP]?"
                r" +[\d.]+[kMGTP]? +[\d.]+[kMGTP]? +[-\d]+:[-\d]+:[-\d]+ "
            ),
            re.compile(r"^#* +(?P<percent>\d+\.\d)%$"),
            re.compile(r"^#+ *(?P<percent>\d+\.\d)%$"),
        ),
    ),
    Reader(
        "wget",
        "wget 1.21",
        (
            re.compile(r"^\d+K[., ]+(?P<percent>\d+)% +[\d.]+[KMG]?[ =]"),
            re.compile(r"^(?P<label>\S+) +(?P<percent>\d+)%\[[=+]*>? *\] +[\d.,]+[KMG]?(?: |$)"),
        ),
    ),
    Reader(
        "pv",
        "pv 1.6, duplicity 0.8 --progress",
        (
            re.compile(
                r"^[\d.,]+[KMGT]?i?B \d+:\d\d:\d\d \[ *[\d.,]+[KMGT]?i?B/s\] "
                r"\[=*>? *\] +(?P<percent>\d+)%"
            ),
        ),
    ),
    Reader(
        "pv-n",
        "pv 1.6 -n",
        (re.compile(r"^(?P<percent>\d{1,3})$"),),
        command=re.compile(r"\bpv -[a-zA-Z]*n"),
    ),
    Reader(
        "cargo",
        "cargo 1.95",
        (
            re.compile(
                r"^(?P<label>Building|Downloading|Updating|Fetch) \[=*>? *\] "
                r"(?P<done>\d+)/(?P<total>\d+)(?:: (?P<note>.*))?$"
            ),
        ),
    ),
    Reader(
        "make",
        "CMake 3.25 with make 4.3",
        (
            re.compile(
                r"^\[ *(?P<percent>\d+)%\] (?P<note>(?:Building|Linking|Built target|Generating|"
                r"Automatic|Creating|Performing|Completed|Copying|Running|Scanning|"
                r"No [a-z]+ step for) .*)"
            ),
        ),
    ),
    Reader(
        "ninja",
        "ninja 1.11, meson 1.0",
        (
            re.compile(
                r"^\[(?P<done>\d+)/(?P<total>\d+)\] "
                r"(?P<note>(?:(?:Building|Compiling|Linking) (?:[A-Z]|static|shared|target)|"
                r"(?:Generating|Copying|Running|Scanning|Creating|Performing|Completed) \S*[./ ']|"
                r"(?:\S+/)?(?:cc|gcc|g\+\+|c\+\+|clang|clang\+\+|ar|ccache|rustc|CC|CXX|AR|LINK|"
                r"SOLINK|STAMP|ACTION) ).*)"
            ),
        ),
    ),
    Reader(
        "meson",
        "meson 1.0 test",
        (
            re.compile(
                r"^(?P<done>\d+)/(?P<total>\d+) "
                r"(?P<note>.*) (?:OK|FAIL|SKIP|TIMEOUT|ERROR|EXPECTEDFAIL|UNEXPECTEDPASS) +"
                r"\d+\.\d\ds"
            ),
        ),
    ),
    Reader(
        "ctest",
        "ctest 3.25",
        (re.compile(r"^(?P<done>\d+)/(?P<total>\d+) Test +#\d+: (?P<note>[^ .]+)"),),
    ),
    Reader(
        "pip",
        "pip 23",
        (re.compile(r"^━{10,} (?P<done>[\d.]+)/(?P<total>[\d.]+) [kMG]?B "),),
        optional_before=re.compile(r"^Downloading (?P<label>\S+) \("),
        phases=True,
    ),
    Reader(
        "apt",
        "apt 2.6, dpkg 1.21",
        (
            re.compile(r"^\((?P<label>Reading database) \.\.\. (?P<percent>\d+)%$"),
            re.compile(
                r"^(?P<label>Reading package lists|Building dependency tree|"
                r"Reading state information)\.\.\. (?P<percent>\d+)%$"
            ),
            re.compile(r"^(?P<percent>\d+)% \[(?:Working|Connecting|Waiting|\d+ )"),
        ),
        phases=True,
    ),
    Reader(
        "xz",
        "xz 5.4",
        (
            re.compile(
                r"^(?P<percent>\d+(?:\.\d)?) % +[\d.,]+ [KMGT]?i?B / [\d.,]+ [KMGT]?i?B = \d"
            ),
        ),
    ),
    Reader(
        "7z",
        "7-Zip 26.02 -bsp1",
        (re.compile(r"^(?P<percent>\d+)% (?:\d+ )?[-+UT=] (?P<note>\S.*)"),),
        before=re.compile(r"^7-Zip "),
    ),
    Reader(
        "snakemake",
        "snakemake 9.27",
        (re.compile(r"^(?P<note>(?P<done>\d+) of (?P<total>\d+) steps) \(\d+%\) done$"),),
    ),
    Reader(
        "nmap",
        "nmap 7.93 --stats-every",
        (
            re.compile(
                r"^(?P<label>[A-Z][\w -]*) Timing: About (?P<percent>\d+\.\d+)% done(?:; ETC|$)"
            ),
        ),
    ),
    Reader(
        "pgbench",
        "pgbench 15 -i",
        (
            re.compile(
                r"^(?P<done>\d+) of (?P<total>\d+) tuples \(\d+%\) (?:of \w+ )?done \(elapsed "
            ),
        ),
    ),
    Reader(
        "pg_basebackup",
        "pg_basebackup 15 -P",
        (re.compile(r"^(?P<done>\d+)/(?P<total>\d+) kB \(\d+%\), (?P<note>\d+/\d+ tablespaces?)"),),
        grows=True,
    ),
    Reader(
        "restic",
        "restic 0.14",
        (
            re.compile(r"^\[\d+:\d\d(?::\d\d)?\] (?P<percent>\d+\.\d\d)%  (?P<note>\d+ files)"),
            re.compile(
                r'^\{"message_type":"status",(?:"[a-z_]+":\d+,)*"percent_done":'
                r"(?P<fraction>\d(?:\.\d+)?(?:e-\d+)?)[,}]"
            ),
        ),
        grows=True,
    ),
    Reader(
        "rclone",
        "rclone 1.60",
        (
            re.compile(
                r"Transferred: *(?P<note>[\d.]+ [KMGTP]?i?B / [\d.]+ [KMGTP]?i?B), "
                r"(?P<percent>\d+)%, [\d.]+ [KMGTP]?i?B/s"
            ),
            re.compile(
                r"^(?:.*ETA (?:-|[\dhmdwy]*s))?(?P<note>[\d.]+ [KMGTP]?i?B / [\d.]+ [KMGTP]?i?B), "
                r"(?P<percent>\d+)%, [\d.]+ [KMGTP]?i?B/s, ETA [-\d]"
            ),
        ),
        grows=True,
    ),
    Reader(
        "aria2",
        "aria2 1.36",
        (
            re.compile(
                r"^\[#[0-9a-f]{6} (?P<note>[\d.]+[KMGT]?i?B/[\d.]+[KMGT]?i?B)\((?P<percent>\d+)%\) "
            ),
        ),
    ),
    Reader(
        "parallel",
        "GNU parallel 20221122 --bar",
        (re.compile(r"^(?P<percent>\d+)% \d+:\d+=\w+ (?P<note>\S+)"),),
    ),
    Reader(
        "fio",
        "fio 3.33",
        (re.compile(r"^Jobs: \d+ \(f=\d+\)[^\[]*\[[^\]]*\]\[(?P<percent>\d+\.\d)%\]"),),
    ),
    Reader(
        "ddrescue",
        "GNU ddrescue 1.27",
        (re.compile(r"^pct rescued: +(?P<percent>\d+\.\d+)%, read errors:"),),
    ),
    Reader(
        "docker",
        "docker build 20.10",
        (re.compile(r"^Step (?P<begun>\d+)/(?P<total>\d+) : (?P<note>[A-Z]+ .*)"),),
    ),
    Reader(
        "buildkit",
        "BuildKit of Docker 20.10, into a pipe",
        (
            re.compile(
                r"^#\d+ \[(?:(?P<label>[\w.-]+) +)?(?P<begun>\d+)/(?P<total>\d+)\] "
                r"(?P<note>(?:FROM|RUN|COPY|ADD|WORKDIR) .*)"
            ),
        ),
    ),
    Reader(
        "buildkit-tty",
        "BuildKit of Docker 20.10, on a terminal",
        (re.compile(r"^\[\+\] (?P<label>Building) [\d.]+s \((?P<done>\d+)/(?P<total>\d+)\)"),),
        phases=True,
    ),
    Reader(
        "ffmpeg",
        "ffmpeg 5.1",
        (re.compile(r"^(?:frame|size)=.* time=(?P<at>\d+:\d\d:\d\d(?:\.\d+)?) "),),
        before=re.compile(r"^Duration: (?P<length>\d+:\d\d:\d\d(?:\.\d+)?),"),
    ),
    Reader(
        "gradle",
        "gradle 4.4, on a terminal",
        (re.compile(r"^<[=-]+>? (?P<percent>\d+)% (?P<label>CONFIGURING|EXECUTING)"),),
    ),
    Reader(
        "cli-progress",
        "cli-progress 3, on a terminal",
        (
            re.compile(
                r"^(?P<label>[^█░=%-]*)[█░=-]{10,}\]? (?P<percent>\d+)% \| "
                r"ETA: \w+ \| (?P<note>\d+/\d+)$"
            ),
        ),
        nested=True,
    ),
    Reader(
        "indicatif",
        "indicatif 0.17, on a terminal",
        (re.compile(r"^[█░]{10,} (?P<done>\d+)/(?P<total>\d+)$"),),
        nested=True,
    ),
)
"""In this order they are asked, when none of them has matched yet."""
NAMES = {reader.name: reader for reader in READERS}
