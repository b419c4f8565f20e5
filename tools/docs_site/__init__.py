"""The documentation as a site: the pages of this repository, linked as they are there, checked and rendered.

`pages` says which pages there are and what links lead to, `assembly` lays them out for Sphinx, which `conf` sets up,
`llms` lists them for language models, and the command builds it all.
"""
