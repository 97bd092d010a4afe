"""Rolling restarts from the version before a change to the version with it, and back, on a real Kafka.

Users replace their workers one after the other while events keep arriving, and go back when the new version
disappoints them. For a while both versions are members of one group: each reads the state directories, the changelog
and the committed offsets that the other has written. The tests here do that under load, with either guarantee, and the
oracle judges what is left.

The version before is the commit whose full hash is in `BEFORE`. Its wheel is built from `git archive` into
`.cache/upgrade/<commit>`, and its workers run the packages `pipeline`, `agents` and `tables` of that wheel. Third-party
packages are those of the test environment, for both versions.

**A slice that lands moves BEFORE to its own base**: the commit that it is based on is what users have when they upgrade
to it.

A version may refuse state in a format it does not know: it exits with 2 and names both formats (`refuses_by_name` in
`refusal.py`). Then there is no way back, and the test asks for nothing more than that. Any other failure is a bug, and
the way forward must always work.

Without git, or without that commit (a source archive, a shallow clone), the tests are skipped; in CI they fail.
"""
