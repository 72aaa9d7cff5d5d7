"""Where what we run on comes from: the lock, its bill of materials, and the vulnerabilities that are known of it."""

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from research.version import VERSION
from tests.test_packaging import make, required

PYTHONS = ('3.11', '3.12', '3.13')


def locked(root: Path) -> list[Requirement]:
    """Every package of requirements.lock, pinned."""
    return [Requirement(line) for line in re.findall(r'^(\w.*?) \\$', (root / 'requirements.lock').read_text(), re.MULTILINE)]


def versions(root: Path, python: str) -> dict[str, str]:
    """{package: its locked version} for one version of Python on Linux."""
    here = {'python_version': python, 'python_full_version': f'{python}.0', 'sys_platform': 'linux', 'platform_machine': 'x86_64'}
    pinned = [each for each in locked(root) if each.marker is None or each.marker.evaluate(here)]
    assert len({each.name for each in pinned}) == len(pinned), 'one version of a package for one Python'
    return {canonicalize_name(each.name): str(each.specifier).removeprefix('==') for each in pinned}


@pytest.mark.parametrize('python', PYTHONS)
def test_the_lock_holds_all_that_is_required_within_its_bounds(root: Path, python: str) -> None:
    found = versions(root, python)
    for each in required(root / 'requirements.txt'):
        version = found[canonicalize_name(each.name)]
        assert each.specifier.contains(version), f'{each.name}=={version} is locked for Python {python}: run make lock'


def test_the_lock_pins_every_package_to_one_version_with_hashes(root: Path) -> None:
    text = (root / 'requirements.lock').read_text()
    pins = re.findall(r'^\w\S*==(\S+).*\\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)', text, re.MULTILINE)
    assert len(pins) == len(locked(root)) == len(re.findall(r'^\w', text, re.MULTILINE)) > 60
    assert all(Version(version) and '--hash' in hashes for version, hashes in pins)
    assert not {'torch', 'nvidia-cublas', 'libtpu', 'jax-cuda13-plugin'} & {each.name for each in locked(root)}


@pytest.mark.skipif(not shutil.which('make'), reason='no make')
def test_a_locked_quick_start_compares_hashes(root: Path) -> None:
    said = make(root, 'quickstart', 'LOCKED=1').stdout.splitlines()
    assert [line.partition('--require-hashes')[2] for line in said if 'pip install' in line] == [' -r requirements.lock']
    assert 'quickstart.py --jobs=2' in said[-1]
    assert 'LOCKED=1 is for ACCELERATOR=cpu' in make(root, 'quickstart', 'LOCKED=1', 'ACCELERATOR=cuda').stderr


@pytest.mark.skipif(not shutil.which('make'), reason='no make')
def test_a_bill_of_materials_lists_every_locked_package(root: Path, tmp_path: Path) -> None:
    for name in ('Makefile', 'pyproject.toml', 'requirements.txt', 'requirements-dev.txt', 'requirements.lock'):
        shutil.copy(root / name, tmp_path)
    (tmp_path / 'research').mkdir()
    shutil.copy(root / 'research' / 'version.py', tmp_path / 'research')
    environment = tmp_path / '.venv' / 'bin'
    environment.mkdir(parents=True)
    (environment / 'python').write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (environment / 'python').chmod(0o755)
    (environment / '.dev').touch()
    ended = make(tmp_path, 'sbom', 'VENV=.venv', dry=False)
    assert ended.returncode == 0, ended.stderr
    bill = json.loads((tmp_path / 'dist' / 'sbom.json').read_text())
    assert bill['bomFormat'] == 'CycloneDX'
    assert (bill['metadata']['component']['name'], bill['metadata']['component']['version']) == ('small-berts', VERSION)
    listed = {(each['name'], each['version']) for each in bill['components']}
    assert listed == {(each.name, str(each.specifier).removeprefix('==')) for each in locked(root)}
    assert all(each['externalReferences'][0]['hashes'] for each in bill['components'])


def test_a_release_has_its_bill_of_materials(root: Path) -> None:
    workflow = (root / '.github' / 'workflows' / 'release.yml').read_text()
    assert 'run: make release' in workflow and 'gh release create "$GITHUB_REF_NAME" dist/*' in workflow
    assert re.search(r'^release: sbom$', (root / 'Makefile').read_text(), re.MULTILINE)


# ---- Vulnerabilities -------------------------------------------------------------------------------------------------------------

KNOWN = {
    'id': 'PYSEC-0000-1',
    'aliases': ['CVE-0000-1'],
    'summary': 'made up',
    'details': 'made up',
    'published': '2026-01-01T00:00:00Z',
    'affected': [
        {
            'package': {'name': 'numpy', 'ecosystem': 'PyPI'},
            'ranges': [{'type': 'ECOSYSTEM', 'events': [{'introduced': '0'}, {'fixed': '99'}]}],
        }
    ],
}


@pytest.fixture
def database() -> Iterator[str]:
    """The address of a database of vulnerabilities on this machine; it knows one, of numpy."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
            answer = json.dumps({'vulns': [KNOWN]} if asked['package']['name'] == 'numpy' else {}).encode()
            self.send_response(200)
            self.send_header('Content-Length', str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_address[1]}/v1/query'
        server.shutdown()


@pytest.fixture
def checkout(root: Path, tmp_path: Path) -> Path:
    """A folder with a lock of two packages and the script that audits it."""
    pins = {name: version for name, version in versions(root, '3.11').items() if name in ('numpy', 'rich')}
    hashed = ''.join(f'{name}=={version} \\\n    --hash=sha256:{"0" * 64}\n' for name, version in pins.items())
    (tmp_path / 'requirements.lock').write_text(hashed)
    (tmp_path / '.ci').mkdir()
    for name in ('audit.py', 'audit-explained.txt'):
        shutil.copy(root / '.ci' / name, tmp_path / '.ci')
    return tmp_path


def audit(checkout: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the script with a cache of its own."""
    command = [sys.executable, str(checkout / '.ci' / 'audit.py'), f'--cache-dir={checkout / "cache"}', *options]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


def test_an_unexplained_vulnerability_is_named_and_an_explained_one_is_not_counted(checkout: Path, database: str) -> None:
    options = ('--vulnerability-service=osv', f'--osv-url={database}')
    ended = audit(checkout, *options)
    assert ended.returncode == 1, ended.stderr
    assert 'PYSEC-0000-1, mended in 99; NOT EXPLAINED: upgrade' in ended.stdout
    assert '2 packages looked up, 1 vulnerabilities that are not explained' in ended.stdout

    (checkout / '.ci' / 'audit-explained.txt').write_text(
        '# comment\nCVE-0000-1 our arrays come from files of ours\nCVE-0000-2 gone\n'
    )
    ended = audit(checkout, *options)
    assert ended.returncode == 0, ended.stdout
    assert 'explained: our arrays come from files of ours' in ended.stdout and '0 vulnerabilities' in ended.stdout
    assert 'CVE-0000-2 is no longer found: remove its line' in ended.stdout


def test_an_audit_that_nobody_answered_is_not_clean(checkout: Path) -> None:
    ended = audit(checkout, HTTPS_PROXY='http://127.0.0.1:9', https_proxy='http://127.0.0.1:9')
    assert ended.returncode == 3, ended.stdout
    assert re.fullmatch(r'NOT AUDITED: the database of vulnerabilities could not be asked: .*\n', ended.stderr)


def test_a_database_that_does_not_know_the_packages_is_not_clean(checkout: Path) -> None:
    """pip-audit itself ends with 0 and 'No known vulnerabilities found'."""
    said = {
        'dependencies': [{'name': 'numpy', 'skip_reason': 'not found'}, {'name': 'rich', 'version': '1', 'vulns': []}],
        'fixes': [],
    }
    (checkout / 'pip_audit.py').write_text(f'print({json.dumps(said)!r})\n')
    ended = audit(checkout, PYTHONPATH=str(checkout))
    assert ended.returncode == 3, ended.stderr
    assert ended.stderr == 'NOT AUDITED: the database does not know 1 of 2 packages: numpy\n'
    assert ended.stdout.startswith('1 packages looked up')


def test_every_explanation_has_a_reason(root: Path) -> None:
    lines = [line for line in (root / '.ci' / 'audit-explained.txt').read_text().splitlines() if line and line[0] != '#']
    assert all(re.fullmatch(r'\S+-\S+ \S.{10,}', line) for line in lines)
