-- Core 0.17.1 and newer; may follow a list of others.
, pgflow_version
