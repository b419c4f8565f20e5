"""docs/reference/ from the code: what the worker and the operator accept, report and measure.

python -m tools.reference           write
python -m tools.reference --check   exit with 1 when a file differs from what the code says
"""
