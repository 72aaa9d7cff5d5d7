"""Asks pip-audit for known vulnerabilities of what requirements.lock holds, and says what it could not ask.

Exit statuses: 0, every package was looked up, and each known vulnerability is explained in .ci/audit-explained.txt; 1, one is not
explained; 3, some packages could not be looked up. pip-audit alone ends with 0 where its database knows no package at all.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
EXPLAINED = ROOT / '.ci' / 'audit-explained.txt'
NAMED = 10  # packages that a message names


def main() -> int:
    """Runs pip-audit, prints what it found, and returns the exit status."""
    options = ['--require-hashes', '--disable-pip', '--progress-spinner=off', '--format=json', *sys.argv[1:]]
    command = [sys.executable, '-m', 'pip_audit', f'--requirement={ROOT / "requirements.lock"}', *options]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        packages = json.loads(ended.stdout)['dependencies']
    except (ValueError, KeyError):
        lines = ended.stderr.strip().splitlines() or [f'pip-audit ended with status {ended.returncode} and said nothing']
        print(f'NOT AUDITED: the database of vulnerabilities could not be asked: {lines[-1]}', file=sys.stderr)
        return 3
    lines, left = judge(packages, read_explained(EXPLAINED.read_text()))
    print('\n'.join(lines))
    skipped = [each['name'] for each in packages if 'skip_reason' in each]
    if skipped:
        named = ', '.join(skipped[:NAMED]) + (' …' if len(skipped) > NAMED else '')
        print(f'NOT AUDITED: the database does not know {len(skipped)} of {len(packages)} packages: {named}', file=sys.stderr)
    return 1 if left else 3 if skipped or not packages else 0


def read_explained(text: str) -> dict[str, str]:
    """{id of a vulnerability: why it does not matter here} of lines `ID why`; lines that begin with # are comments."""
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip() and not line.startswith('#')]
    return {line[0]: line[1] for line in lines if len(line) == 2}


def judge(packages: list[dict], explained: dict[str, str]) -> tuple[list[str], int]:
    """(a line for each vulnerability and a last one, how many of them are not explained)."""
    lines, left, used = [], 0, set()
    for package in packages:
        for found in package.get('vulns', ()):
            names = [name for name in (found['id'], *found.get('aliases', ())) if name in explained]
            used |= set(names)
            left += not names
            fixed = f'mended in {", ".join(found["fix_versions"])}' if found.get('fix_versions') else 'no version mends it'
            why = (
                f'explained: {explained[names[0]]}' if names else 'NOT EXPLAINED: upgrade, or add a line to .ci/audit-explained.txt'
            )
            lines.append(f'{package["name"]} {package["version"]}: {found["id"]}, {fixed}; {why}')
    lines += [f'.ci/audit-explained.txt: {name} is no longer found: remove its line' for name in sorted(set(explained) - used)]
    audited = sum('skip_reason' not in package for package in packages)
    return [*lines, f'{audited} packages looked up, {left} vulnerabilities that are not explained'], left


if __name__ == '__main__':
    sys.exit(main())
