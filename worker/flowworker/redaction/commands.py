"""Passwords in commands and statements, where no `=` or `:` stands between a name and its value."""

from flowworker.redaction.places import Shape, Shapes
from flowworker.redaction.words import NAME, STRING

_GAP = r"""(?:[ \t]{1,40}+|["'],[ \t]{0,40}+["'])"""
"""Between the words of a command, also of one that is shown as a list of arguments."""
_FAR = 400
_REST = rf"""(?:(?![|;&])[^\n]){{0,{_FAR}}}?"""
"""What may stand between a command and its option."""

_SQL = rf"""(?ix)
    ( (?: pass(?:word|wd|phrase) | (?<![a-z])pwd
        | (?: user[ \t]++\S{{1,100}}+[ \t]++identified | (?-i:\bIDENTIFIED) )
          [ \t]++ (?:with[ \t]++\S{{1,80}}+[ \t]++)? (?:by|as|using) )
      (?: [ \t]++ | [ \t]*+\([ \t]*+ ) (?:password[ \t]*+\([ \t]*+)? )
    (?: {STRING} | \$(\w{{0,40}}+)\$ (?s:.{{0,4000}}?) \$\2\$ )"""
_SQL_WORD = r"(IDENTIFIED[ \t]++BY[ \t]++(?:VALUES[ \t]++)?)[^\s'\"*]++"
"""In capitals only: people write that a thing is identified by another."""

_USER = rf"""(?x)
    ( (?<![\w-]) (?: -[uU] | --(?:proxy-|http-)?user ) (?:{_GAP}|=)? (?P<quote>["'])?
      (?!\d{{1,10}}:\d{{1,10}}(?![^\s"',])) [^\s:"'=@/]{{1,100}}+ : )
    (?!//|\*\*\*) (?(quote) [^\n"']++ | [^\s"']++ )"""
"""`-u user:password`; two numbers are ids of a user and a group."""

_CLIENT = rf"""(?x)
    ( (?<![\w-])
      (?: mysql\w{{0,20}}+ | mariadb[\w-]{{0,20}}+ | mongo\w{{0,20}}+ | sshpass | 7za?
        | twine | unrar | (?:docker|podman|nerdctl|buildah|skopeo|oras|crane|helm|az|oc)\b {_REST} login )
      (?![\w=:@]) {_REST} (?<![\w-])-p{_GAP}? )
    (?!\d{{1,5}}(?::\d|/)|assw|\*\*\*) (?: '[^'\n]++' | "[^"\n]++" | [^\s"']++ )"""
"""`-p` and a password; elsewhere it means a port or parents."""
_OTHER = rf"""(?x)
    ( (?<![\w-])
      (?: redis-cli {_REST} (?<![\w-])-a | (?:sqlcmd|bcp|unzip|zip|mosquitto_\w{{3,8}}) {_REST} (?<![\w-])-P
        | ssh-keygen {_REST} (?<![\w-])-[NP] | (?:openssl{_GAP}enc|nuget{_GAP}push) {_REST} (?<![\w-])-[kK]
        | rabbitmqctl {_GAP} (?:add_user|change_password) {_GAP} \S{{1,100}}+
        | ldap\w{{3,8}}+ {_REST} (?<![\w-])-w
        | htpasswd {_REST} (?<![\w-])-\w{{0,5}}?b\w{{0,5}}+ {_GAP}\S{{1,100}}+ {_GAP}\S{{1,100}}+
        | requirepass | masterauth | bindpw | rootpw )
      (?:{_GAP}|=) | (?<![\w-])(?:smbclient|rpcclient) {_REST} (?<![\w-])-U{_GAP}?[^\s%]{{1,60}}+%
      | (?<![\w-])lftp {_REST} (?<![\w-])-u{_GAP}[^\s,]{{1,60}}+, )
    (?!\*\*\*) [^\s"']++"""
_LOGIN = r"""((?<![\w-])(?:vault|cargo)[ \t]{1,40}+login[ \t]{1,40}+)(?!-)(?=\D{0,100}\d)[^\s"',]{8,}+"""
"""What has no digit may be a word of a sentence."""
_UNSEAL = r"(?i)((?:unseal|recovery)[ ]key[ ]\d{1,2}:[ ])\S++"
_MAIL = r"""(?x)
    ( AUTH[ ](?:PLAIN|LOGIN|XOAUTH2|OAUTHBEARER)[ ](?!OAUTHBEARER|SCRAM|DIGEST-|CRAM-|GSS|ANONYMOUS|EXTERNAL)
      (?=[A-Za-z0-9+/]{8}) | (?<=\d[ ])LOGIN[ ]\S{1,100}+[ ] | (?:(?<=>[ ])|(?<=b')|(?<=b\"))PASS[ ] | \(AUTH[ ] )
    (?:"[^"\n]*+" | [^\s"')\\]++)"""
"""What clients of SMTP, IMAP, POP, FTP and Redis send."""
_CIPHER = rf"""(?ix)
    ( (?<!\w) (?: pgp_sym_(?:en|de)crypt\w{{0,6}}+ [ ]?\( [^()\n]{{0,200}}?,\s{{0,10}}+ | crypt[ ]?\(\s{{0,10}}+ ) )
    {STRING}"""
_POWERSHELL = rf"(?i)(convertto-securestring[ \t]{{1,40}}+(?:-string[ \t]{{1,40}}+)?){STRING}"
_MASK = r"(::add-mask::)[^\n]++"
_AUTH = rf"(?x) ((?<![a-z])auth=(?:\w{{0,20}}+)\([ ]{{0,10}}+{STRING},[ ]{{0,10}}+){STRING}"
_SETTING = rf"""(?x)
    ( (?<![\w-])
      (?: put-parameter {_REST} (?<![\w-])--value | secret[ ]set {_REST} (?<![\w-])(?:--body|-b)
        | alias[ ]set {_GAP} \S{{1,100}}+ {_GAP} https?://\S{{1,200}}+ {_GAP} \S{{1,100}}+
        | config(?:ure)?[ ](?:set{_GAP})? (?i:[\w./:@-]{{0,80}}?{NAME}[\w./-]{{0,40}}+)
        | config[ ]http-basic\.\S{{1,80}}+{_GAP}\S{{1,80}}+ )
      (?:{_GAP}|=) )
    (?!\*\*\*) (?: {STRING} | [^\s"']++ )"""
"""What a command writes into the settings of a tool or the secrets of a service."""
_OPENSSL = rf"""((?<![\w-])-pass(?:in|out)?{_GAP}pass:)[^\s"']++"""

_SENTENCE = (
    r"(?:is|was|are|were|be|has|had|have|not|no|must|should|shall|may|might|can|cannot|could|will|would|does|did|do|and"
    r"|or|nor|in|into|to|from|of|for|at|as|on|by|with|without|but|if|when|then|than|that|which|who|while|because|so"
    r"|environment|variables?|env|value|set|unset|missing|invalid|wrong|expired|required|given|needed|found|name|file"
    r"|here|there|refused|rejected|only|also|contains|holds|takes|needs|means|the|a|an|this|it|instead)(?![\w-])"
)
_VARIABLE = rf"""(?x)
    ( (?<=[A-Z0-9_]) (?: PASSWORD | PASSWD | PASSPHRASE | (?<=_)PASS | (?<=_)PW | SECRET | TOKEN
                       | (?<=API_)KEY | (?<=ACCESS_)KEY | (?<=ACCOUNT_)KEY | (?<=PRIVATE_)KEY
                       | (?<=SECRET_)KEY ) [ \t]++ )
    (?! {_SENTENCE} | [=:(\[{{&|<>*\#-] | [A-Z][A-Z_]*+(?:\s|$) ) (?: {STRING} | [^\s"']++ )"""
"""`PGPASSWORD x`, but not the name in a sentence: `PGPASSWORD is not set`."""

_NETRC = (
    r"((?:machine\s{1,40}+\S{1,200}+|default)\s{1,40}+(?:(?:login|account)\s{1,40}+\S{1,200}+\s{1,40}+){0,2}"
    r"password\s{1,40}+)\S++"
)
"""A line, or several, of a file that clients read."""

SHAPES = Shapes(
    Shape(begins=("pass", "pwd", "user", "identified"), pattern=_SQL, hints=("pass", "pwd", "identified")),
    Shape(begins=("identified",), pattern=_SQL_WORD),
    Shape(begins=("machine", "default"), pattern=_NETRC, hints=("password",)),
    Shape(begins=("-u", "--user", "--proxy-user", "--http-user"), pattern=_USER),
    Shape(
        begins=(
            "mysql",
            "mariadb",
            "mongo",
            "sshpass",
            "7z",
            "docker",
            "podman",
            "nerdctl",
            "buildah",
            "skopeo",
            "oras",
            "crane",
            "helm",
            "az ",
            "oc ",
            "twine",
            "unrar",
        ),
        pattern=_CLIENT,
        hints=("-p",),
        reach=_FAR,
    ),
    Shape(
        begins=(
            "redis-cli",
            "sqlcmd",
            "bcp",
            "unzip",
            "zip",
            "ldap",
            "htpasswd",
            "requirepass",
            "masterauth",
            "bindpw",
            "rootpw",
            "mosquitto_",
            "ssh-keygen",
            "openssl",
            "nuget",
            "rabbitmqctl",
            "smbclient",
            "rpcclient",
            "lftp",
        ),
        pattern=_OTHER,
        reach=_FAR,
    ),
    Shape(
        begins=(
            "put-parameter",
            "secret set",
            "alias set",
            "config set",
            "configure set",
            "config http-basic.",
            "config pypi-token.",
        ),
        pattern=_SETTING,
        reach=_FAR,
    ),
    Shape(begins=("vault", "cargo"), pattern=_LOGIN, hints=("login",)),
    Shape(begins=("unseal key", "recovery key"), pattern=_UNSEAL),
    Shape(begins=("auth ", "login ", "pass ", "(auth "), pattern=_MAIL),
    Shape(begins=("pgp_sym_", "crypt"), pattern=_CIPHER, hints=("pgp_sym_", "crypt(", "crypt (")),
    Shape(begins=("convertto-securestring",), pattern=_POWERSHELL),
    Shape(begins=("::add-mask::",), pattern=_MASK),
    Shape(begins=("auth=",), pattern=_AUTH, hints=("(",)),
    Shape(begins=("-pass",), pattern=_OPENSSL, hints=("pass:",)),
    Shape(begins=("pass", "pw", "secret", "token", "key"), pattern=_VARIABLE),
)


def without_commands(text: str) -> str:
    """The text without the passwords of commands and statements."""
    return SHAPES.hide_in(text)
