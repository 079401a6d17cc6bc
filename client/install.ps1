# Connects this machine and its coding agents to a Federated Memory server. Windows PowerShell 5.1 or later.
#
#   .\install.ps1 <AI_TOKEN> --sync-token <SYNC_TOKEN> --url https://HOST:PORT --machine NAME
#   .\install.ps1 --invite 'https://HOST:PORT/#CODE'
#
# Tokens may also come from MCP_MEMORY_TOKEN and SYNC_TOKEN, or with `-` in their place from standard input, a line
# each; that is better, because arguments show in process lists. Here they go on by the environment only.
#
#   --pin sha256//...   the server's public key, as curl takes it: nothing else is accepted (self-signed certificate)
#   --ca-file PEM       certificate authority of the server's certificate
#
# Every other option goes to `memory_sync.py install`; see `--help`.

$ErrorActionPreference = 'Stop'
Set-StrictMode -Version 2

function Fail([string] $Message, [int] $Code = 1) {
    [Console]::Error.WriteLine("install.ps1: $Message")
    exit $Code
}

# The first Python that is new enough and whole, as a program and its first arguments.
function Find-Python {
    $candidates = @()
    if ($env:MEMORY_SYNC_PYTHON) { $candidates += , @($env:MEMORY_SYNC_PYTHON) }
    $candidates += , @('py', '-3')
    $candidates += , @('python3')
    $candidates += , @('python')
    foreach ($candidate in $candidates) {
        if (-not (Get-Command $candidate[0] -CommandType Application -ErrorAction SilentlyContinue)) { continue }
        $first = @($candidate | Select-Object -Skip 1)
        # Windows has a `python` that only opens its shop: what counts is that it runs.
        try { $found = & $candidate[0] @first -I -S -c 'import sqlite3, ssl, sys; print(int(sys.version_info >= (3, 10)))' 2>$null }
        catch { continue }
        if ("$found".Trim() -eq '1') { return , $candidate }
    }
    Fail 'Python 3.10 or newer is needed: winget install Python.Python.3.13'
}

function Read-Token([string] $Kind) {
    $line = [Console]::In.ReadLine()
    if (-not $line) { Fail "standard input had no $Kind token: give the AI token and the sync token, a line each" 2 }
    return $line.Trim()
}

# One of the client's files from the server.
function Get-ClientFile([string] $Name) {
    $address = "$origin/client/$Name"
    $target = Join-Path $work $Name
    if (Get-Command curl.exe -CommandType Application -ErrorAction SilentlyContinue) {
        $flags = @('-fsS')
        # The key pin holds although -k leaves the issuer unchecked.
        if ($pin) { $flags += @('-k', '--pinnedpubkey', $pin) }
        elseif ($caFile) { $flags += @('--cacert', $caFile) }
        & curl.exe @flags --max-time 120 -o $target $address
        if ($LASTEXITCODE -ne 0) { Fail "$address cannot be fetched; is the server up, and reachable from here?" 6 }
    }
    elseif ($pin -or $caFile) { Fail 'curl.exe is needed to check the server: it is part of Windows 10 and later' }
    else {
        try { Invoke-WebRequest -UseBasicParsing -MaximumRedirection 0 -TimeoutSec 120 -Uri $address -OutFile $target }
        catch { Fail "$address cannot be fetched; is the server up, and reachable from here?" 6 }
    }
}

# A server that hands this file out puts its address here.
$origin = '@ORIGIN@'
if ($origin.StartsWith('@')) { $origin = '' }
$pin = ''; $caFile = ''; $url = ''; $invite = ''; $aiToken = ''; $syncToken = ''
$more = @()
$withValue = @(
    '--pin', '--ca-file', '--url', '--invite', '--sync-token', '--machine', '--client', '--history', '--exclude-project'
)

$index = 0
while ($index -lt $args.Count) {
    $argument = [string] $args[$index]
    $index += 1
    $value = ''
    if ($argument -match '^(--[a-z-]+)=(.*)$') { $argument = $Matches[1]; $value = $Matches[2] }
    elseif ($withValue -contains $argument) {
        if ($index -ge $args.Count) { Fail "$argument needs a value" 2 }
        $value = [string] $args[$index]
        $index += 1
    }
    switch ($argument) {
        '--pin' { $pin = $value }
        '--invite' { $invite = $value }
        '--sync-token' { $syncToken = $value }
        '--url' { $url = $value; $more += @('--url', $value) }
        '--ca-file' { $caFile = $value; $more += @('--ca-file', $value) }
        default {
            if ($withValue -contains $argument) { $more += @($argument, $value) }
            elseif ($argument.StartsWith('--')) { $more += $argument }
            elseif ($aiToken) { Fail 'more than one AI token was given' 2 }
            else { $aiToken = $argument }
        }
    }
}
if ($aiToken -eq '-') { $aiToken = Read-Token 'AI' }
if ($syncToken -eq '-') { $syncToken = Read-Token 'sync' }

$python = Find-Python
$first = @($python | Select-Object -Skip 1)
$work = ''
$here = $PSScriptRoot
if (-not $here -or -not (Test-Path -LiteralPath (Join-Path $here 'memory_sync.py'))) { $here = '' }
$before = @{ ai = $env:MCP_MEMORY_TOKEN; sync = $env:SYNC_TOKEN; invite = $env:MEMORY_SYNC_INVITE }
try {
    if (-not $here) {
        if ($invite) { $origin = ($invite -split '#', 2)[0] } elseif ($url) { $origin = $url }
        $origin = ($origin.TrimEnd('/') -replace '/mcp$', '')
        if (-not $origin) { Fail 'which server? give --url https://HOST:PORT, or --invite' 2 }
        if ($origin -notmatch '^https?://') { Fail "$origin is no address of a server: it starts with https:// or http://" 2 }
        $work = Join-Path ([IO.Path]::GetTempPath()) ('memory-install-' + [Guid]::NewGuid().ToString('N'))
        New-Item -ItemType Directory -Path $work | Out-Null
        Get-ClientFile 'memory_sync.py'
        Get-ClientFile 'redaction_rules.json'
        $head = [string] (Get-Content -LiteralPath (Join-Path $work 'memory_sync.py') -TotalCount 1)
        if ($head -notmatch '^#!.*python') { Fail "$origin/client/memory_sync.py is not the client: a proxy may have answered" 6 }
        $here = $work
        if (-not $invite -and -not $url) { $more += @('--url', $origin) }
    }
    if ($aiToken) { $env:MCP_MEMORY_TOKEN = $aiToken }
    if ($syncToken) { $env:SYNC_TOKEN = $syncToken }
    if ($invite) { $env:MEMORY_SYNC_INVITE = $invite }
    & $python[0] @first -I -S (Join-Path $here 'memory_sync.py') install @more
    $code = $LASTEXITCODE
}
finally {
    $env:MCP_MEMORY_TOKEN = $before.ai
    $env:SYNC_TOKEN = $before.sync
    $env:MEMORY_SYNC_INVITE = $before.invite
    if ($work) { Remove-Item -LiteralPath $work -Recurse -Force -ErrorAction SilentlyContinue }
}
exit $code
