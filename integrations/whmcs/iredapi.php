<?php
/**
 * WHMCS provisioning module for iredapi, the HTTP API for iRedMail servers.
 *
 * A service is one mail domain with its limits, and one mail user in it who is its first admin.
 * README.md says how to install it and what each function does.
 *
 * WHMCS calls the functions iredapi_*. They answer "success" or a sentence about what went wrong.
 */

if (!defined('WHMCS')) {
    die('This file cannot be accessed directly');
}

use WHMCS\Database\Capsule;

function iredapi_MetaData(): array
{
    return [
        'DisplayName' => 'iRedMail domain (iredapi)',
        'APIVersion' => '1.1',
        'RequiresServer' => true,
        'DefaultNonSSLPort' => '8000',
        'DefaultSSLPort' => '443',
    ];
}

/**
 * The settings of a product; WHMCS numbers them (configoption1 …) in this order.
 *
 * A configurable option with one of the first six names replaces the product's value.
 */
function iredapi_ConfigOptions(): array
{
    $number = static fn (string $default, string $description): array => [
        'Type' => 'text',
        'Size' => '10',
        'Default' => $default,
        'Description' => $description,
    ];
    return [
        'Mailboxes' => $number('10', 'Mail users, with the first admin; 0: unlimited'),
        'Aliases' => $number('20', '0: unlimited, -1: none'),
        'Mailing lists' => $number('-1', '0: unlimited, -1: none'),
        'Quota' => $number('10240', 'MB for all mailboxes together; 0: unlimited'),
        'Default mailbox quota' => $number('1024', 'MB for a new mailbox; 0: none'),
        'Maximum mailbox quota' => $number('0', 'MB for one mailbox; 0: no maximum'),
        'First admin' => [
            'Type' => 'text',
            'Size' => '25',
            'Default' => 'postmaster',
            'Description' => 'The part before the @ of the mail user who manages the domain',
        ],
        'Quota of the first admin' => $number('1024', 'MB for the mailbox of the first admin'),
        'Days to keep mailboxes' => $number('30', 'on disk after a termination; 0: for ever'),
    ];
}

/** @return array{success: bool, error: string} */
function iredapi_TestConnection(array $params): array
{
    $result = IredapiModule::run('TestConnection', $params, static fn ($module) => $module->test());
    return ['success' => $result === 'success', 'error' => $result === 'success' ? '' : $result];
}

function iredapi_CreateAccount(array $params): string
{
    return IredapiModule::run('CreateAccount', $params, static fn ($module) => $module->create());
}

function iredapi_SuspendAccount(array $params): string
{
    $change = static fn ($module) => $module->change(['suspend' => 'yes']);
    return IredapiModule::run('SuspendAccount', $params, $change);
}

function iredapi_UnsuspendAccount(array $params): string
{
    $change = static fn ($module) => $module->change(['suspend' => 'no']);
    return IredapiModule::run('UnsuspendAccount', $params, $change);
}

function iredapi_TerminateAccount(array $params): string
{
    return IredapiModule::run('TerminateAccount', $params, static fn ($module) => $module->terminate());
}

function iredapi_ChangePackage(array $params): string
{
    $change = static fn ($module) => $module->change($module->limits());
    return IredapiModule::run('ChangePackage', $params, $change);
}

function iredapi_ChangePassword(array $params): string
{
    return IredapiModule::run('ChangePassword', $params, static fn ($module) => $module->password());
}

/** WHMCS does not read the result of this one; errors are in the module log. */
function iredapi_UsageUpdate(array $params): string
{
    return IredapiModule::run('UsageUpdate', $params, static fn ($module) => $module->usage());
}

/** A request that failed, or a service that cannot be served; the message is for WHMCS's user. */
final class IredapiError extends RuntimeException
{
    /** @param string $reason  code of the service, such as ALREADY_EXISTS; or empty */
    public function __construct(
        string $message,
        public readonly string $reason = '',
        public readonly bool $replayed = false,
    ) {
        parent::__construct($message);
    }
}

/** What the functions do, with the parameters that WHMCS has given. */
final class IredapiModule
{
    private const OPTIONS = [
        'Mailboxes' => 'numberOfUsers',
        'Aliases' => 'numberOfAliases',
        'Mailing lists' => 'numberOfLists',
        'Quota' => 'quota',
        'Default mailbox quota' => 'defaultQuota',
        'Maximum mailbox quota' => 'maxUserQuota',
    ];
    private const MEANINGS = [
        'INVALID_TOKEN' => 'the API token of the server is unknown, expired or revoked',
        'LOGIN_REQUIRED' => 'the server entry in WHMCS has no API token',
        'NOT_ALLOWED_IP' => 'the API token may not be used from the address of this WHMCS',
        'NOT_AUTHORIZED' => 'the mail server does not allow the address of this WHMCS',
        'PERMISSION_DENIED' => 'the owner of the API token may not do this',
        'ALREADY_EXISTS' => 'the name is in use on the mail server',
        'NO_SUCH_DOMAIN' => 'there is no such mail domain on the mail server',
        'NO_SUCH_ACCOUNT' => 'there is no such mail user on the mail server',
        'IGNORED_PARAMETER' => 'the mail server cannot do this',
    ];
    private const RETRIED = [429, 502, 503, 504];
    private const RETRIED_CODES = ['IDEMPOTENCY_KEY_IN_USE', 'CHANGED_MEANWHILE'];
    private const TRIES = 4;
    /** Seconds: to connect, for an answer, and after which nothing is sent again. */
    private const CONNECT = 10;
    private const ANSWER = 60;
    private const PATIENCE = 60;
    private const CERTIFICATE_ERRORS = [CURLE_SSL_CONNECT_ERROR, 51, 60, 77, 83, 90, 91];

    private function __construct(private readonly string $action, private readonly array $params)
    {
    }

    /** Run one function of the module; returns "success" or a sentence. */
    public static function run(string $action, array $params, callable $work): string
    {
        $module = new self($action, $params);
        try {
            $work($module);
        } catch (Throwable $error) {
            if (!$error instanceof IredapiError) {
                $module->log('', $error->getMessage(), '');
            }
            return $error->getMessage();
        }
        return 'success';
    }

    /** Can this token do what the module needs? */
    public function test(): void
    {
        $caller = $this->ask('GET', 'whoami')['_data'];
        if (!empty($caller['read_only'])) {
            throw new IredapiError('The API token may only read: make one that may write.');
        }
        if (empty($caller['may_create_domains'])) {
            throw new IredapiError('The owner of the API token may not create domains.');
        }
    }

    /** Create the domain and its first admin, or what is missing of them. */
    public function create(): void
    {
        $domain = $this->domain();
        $path = 'domain/' . rawurlencode($domain);
        $found = $this->read($path, orForeign: true);
        if ($found === null) {
            $name = $this->customer() . " [WHMCS {$this->serviceId()}]";
            $form = ['name' => $name] + $this->limits();
            try {
                $found = $this->createOnce($path, $form, $form);
            } catch (IredapiError $error) {
                // Somebody else may have created it in the same moment: who?
                $found = $error->reason === 'ALREADY_EXISTS'
                    ? $this->read($path, orForeign: true)
                    : null;
                if ($found === null) {
                    throw $error;
                }
            }
        }
        if ($found !== null) {
            if ($this->ownerOf($found) !== $this->serviceId()) {
                throw new IredapiError(
                    "The mail domain $domain exists already, and was not created for this service.",
                    'ALREADY_EXISTS'
                );
            }
            $this->write('PUT', $path, $this->limits());
        }
        $admin = $this->admin();
        $user = 'user/' . rawurlencode($admin);
        if ($this->read($user) === null) {
            // A password must not be guessed from a key that is in logs.
            $form = ['name' => $this->customer(), 'quota' => $this->option('Quota of the first admin')];
            $form = array_filter($form, static fn (string $value): bool => $value !== '');
            $this->createOnce($user, $form + ['password' => $this->params['password'] ?? ''], $form);
        }
        $rights = 'domain/admins/' . rawurlencode($domain);
        $answer = $this->write('PUT', $rights, ['addAdmin' => $admin]);
        if (!empty($answer['_skipped'])) {
            throw new IredapiError("$admin could not be made an admin of $domain.");
        }
        $this->showAdmin($admin);
    }

    /** Change something of the domain. */
    public function change(array $form): void
    {
        $this->mine();
        $this->write('PUT', 'domain/' . rawurlencode($this->domain()), $form);
    }

    /** Remove the domain with all accounts; its mailboxes stay on disk for some days. */
    public function terminate(): void
    {
        try {
            $this->mine();
            $days = $this->option('Days to keep mailboxes');
            $form = $days === '' ? [] : ['keep_mailbox_days' => $days];
            $this->write('DELETE', 'domain/' . rawurlencode($this->domain()), $form);
        } catch (IredapiError $error) {
            if ($error->reason !== 'NO_SUCH_DOMAIN') {
                throw $error;
            }
        }
    }

    /** Give the first admin the service's password. */
    public function password(): void
    {
        $this->mine();
        $form = ['password' => $this->params['password'] ?? ''];
        $this->write('PUT', 'user/' . rawurlencode($this->admin()), $form);
    }

    /** Write the sizes of all domains into WHMCS's table of services, in MB. */
    public function usage(): void
    {
        $query = ['fields' => 'domain,stored_bytes,quota', 'limit' => '500'];
        do {
            $answer = $this->ask('GET', 'usage', $query);
            foreach ($answer['_data'] as $row) {
                foreach ($this->spellings($row['domain']) as $domain) {
                    Capsule::table('tblhosting')
                        ->where('server', $this->params['serverid'])
                        ->where('domain', $domain)
                        ->update([
                            'diskusage' => (int) ceil($row['stored_bytes'] / 1048576),
                            'disklimit' => (int) $row['quota'],
                            'lastupdate' => Capsule::raw('now()'),
                        ]);
                }
            }
            $query['cursor'] = $answer['_next'] ?? null;
        } while ($query['cursor'] !== null);
    }

    /** The limits of the product, by the names of the service; what is empty is left out. */
    public function limits(): array
    {
        $found = [];
        foreach (self::OPTIONS as $name => $parameter) {
            $value = $this->option($name);
            if ($value !== '') {
                $found[$parameter] = $value;
            }
        }
        return $found;
    }

    /** A setting of the product, or what the customer has chosen instead. */
    private function option(string $name): string
    {
        $chosen = $this->params['configoptions'][$name] ?? '';
        if (isset(self::OPTIONS[$name]) && is_scalar($chosen) && trim((string) $chosen) !== '') {
            return trim((string) $chosen);
        }
        $number = array_search($name, array_keys(iredapi_ConfigOptions()), true) + 1;
        return trim((string) ($this->params["configoption$number"] ?? ''));
    }

    private function serviceId(): string
    {
        return (string) ($this->params['serviceid'] ?? '');
    }

    private function domain(): string
    {
        $domain = trim((string) ($this->params['domain'] ?? ''));
        if ($domain === '') {
            throw new IredapiError('The service has no domain name.');
        }
        return $domain;
    }

    /** The address of the first admin: that of the service, once it has been created. */
    private function admin(): string
    {
        $username = trim((string) ($this->params['username'] ?? ''));
        if (str_ends_with(strtolower($username), '@' . strtolower($this->domain()))) {
            return $username;
        }
        $local = $this->option('First admin');
        return ($local === '' ? 'postmaster' : $local) . '@' . $this->domain();
    }

    private function customer(): string
    {
        $details = $this->params['clientsdetails'] ?? [];
        $person = ($details['firstname'] ?? '') . ' ' . ($details['lastname'] ?? '');
        foreach ([$details['companyname'] ?? '', $person] as $name) {
            $name = trim((string) preg_replace('/[\p{C}\p{Z}]+/u', ' ', (string) $name));
            if ($name !== '' && preg_match('/^.{1,200}/us', $name, $found)) {
                return $found[0];
            }
        }
        return $this->domain();
    }

    /** The id of the WHMCS service that a domain was created for, or an empty string. */
    private function ownerOf(array $domain): string
    {
        return preg_match('/ \[WHMCS (\d+)\]$/D', $domain['name'] ?? '', $found) ? $found[1] : '';
    }

    /** Refuse to touch a domain that is not there, or that was created for another service. */
    private function mine(): void
    {
        $domain = $this->domain();
        $found = $this->read('domain/' . rawurlencode($domain));
        if ($found === null) {
            throw new IredapiError("There is no mail domain $domain.", 'NO_SUCH_DOMAIN');
        }
        $owner = $this->ownerOf($found);
        if ($owner !== '' && $owner !== $this->serviceId()) {
            throw new IredapiError("The mail domain $domain belongs to the service $owner.");
        }
    }

    /**
     * The profile of an account, or null.
     *
     * An admin who is not global is told that a domain is not his, also when there is none;
     * $orForeign: that is null, too.
     */
    private function read(string $path, bool $orForeign = false): ?array
    {
        $absent = ['NO_SUCH_DOMAIN', 'NO_SUCH_ACCOUNT', ...($orForeign ? ['PERMISSION_DENIED'] : [])];
        try {
            return $this->ask('GET', $path, ['view' => 'canonical'])['_data'];
        } catch (IredapiError $error) {
            if (in_array($error->reason, $absent, true)) {
                return null;
            }
            throw $error;
        }
    }

    /**
     * Create something, once for this service, however often and in parallel it is asked for.
     *
     * The key of the request is the same each time. If the answer is an old one, what is there now is
     * returned; if nothing is there (any more), the request is sent with a new key.
     */
    private function createOnce(string $path, array $form, array $same): ?array
    {
        $key = $this->key('create-' . hash('sha256', json_encode([$path, $same])));
        try {
            $answer = $this->ask('POST', $path, [], $form, $key);
            $found = $answer['replayed'] ? $this->read($path, orForeign: true) : null;
            if (!$answer['replayed'] || $found !== null) {
                return $found;
            }
        } catch (IredapiError $error) {
            if (!$error->replayed && $error->reason !== 'IDEMPOTENCY_KEY_REUSED') {
                throw $error;
            }
        }
        $this->write('POST', $path, $form);
        return null;
    }

    /** Send a change, with a key of its own: sent again within this call, it is made once. */
    private function write(string $method, string $path, array $form): array
    {
        $key = $this->key(strtolower($this->action) . '-' . bin2hex(random_bytes(16)));
        // Some proxies drop the body of a DELETE.
        return $method === 'DELETE'
            ? $this->ask($method, $path, $form + ['strict' => 'yes'], null, $key)
            : $this->ask($method, $path, [], $form, $key);
    }

    private function key(string $rest): string
    {
        return "whmcs-{$this->serviceId()}-$rest";
    }

    /** Send a request, again if there is no answer; returns the answer, with "replayed". */
    private function ask(
        string $method,
        string $path,
        array $query = [],
        ?array $form = null,
        string $key = '',
    ): array {
        $url = $this->address() . "/api/$path" . ($query ? '?' . http_build_query($query) : '');
        $token = trim((string) ($this->params['serveraccesshash'] ?? ''));
        $token = $token !== '' ? $token : trim((string) ($this->params['serverpassword'] ?? ''));
        if ($token === '') {
            throw new IredapiError('The server entry in WHMCS has no API token (access hash).');
        }
        $headers = ["Authorization: Bearer $token", 'Accept: application/json'];
        if (preg_match('/[^\x21-\x7e]/', $token)) {
            throw new IredapiError('The API token (access hash) of the server entry is not one token.');
        }
        $body = null;
        if ($form !== null) {
            $headers[] = 'Content-Type: application/json';
            $body = json_encode($form + ['strict' => 'yes'], JSON_THROW_ON_ERROR);
        }
        if ($key !== '') {
            $headers[] = "Idempotency-Key: $key";
        }
        $begun = time();
        for ($try = 1; ; $try++) {
            [$status, $found, $text, $fault, $final] = $this->send($method, $url, $headers, $body);
            $answer = json_decode($text, true);
            $valid = is_array($answer) && isset($answer['_success']);
            $code = $valid ? (string) ($answer['_msg'] ?? '') : '';
            $again = $valid
                ? in_array($status, self::RETRIED, true) || in_array($code, self::RETRIED_CODES, true)
                : !$final;
            $pause = min((int) ($found['retry-after'] ?? 2 ** ($try - 1)), 10);
            if (!$again || $try >= self::TRIES || time() + $pause - $begun > self::PATIENCE) {
                break;
            }
            sleep($pause);
        }
        $this->log("$method $url\n" . json_encode($this->masked($form)), $text ?: $fault, $answer);
        if (!$valid) {
            throw new IredapiError($fault ?: "$url does not answer as iredapi (status $status).");
        }
        $replayed = ($found['idempotent-replayed'] ?? '') === 'true';
        if ($answer['_success'] !== true) {
            throw new IredapiError($this->sentence($answer), $code, $replayed);
        }
        return $answer + ['replayed' => $replayed];
    }

    /** @return array{int, array<string, string>, string, string, bool} */
    private function send(string $method, string $url, array $headers, ?string $body): array
    {
        $found = [];
        $curl = curl_init();
        $options = [
            CURLOPT_URL => $url,
            CURLOPT_CUSTOMREQUEST => $method,
            CURLOPT_HTTPHEADER => $headers,
            CURLOPT_RETURNTRANSFER => true,
            CURLOPT_CONNECTTIMEOUT => self::CONNECT,
            CURLOPT_TIMEOUT => self::ANSWER,
            CURLOPT_FOLLOWLOCATION => false,
            CURLOPT_PROTOCOLS => CURLPROTO_HTTP | CURLPROTO_HTTPS,
            CURLOPT_SSL_VERIFYPEER => true,
            CURLOPT_SSL_VERIFYHOST => 2,
            CURLOPT_USERAGENT => 'iredapi-whmcs',
            CURLOPT_HEADERFUNCTION => static function ($_, string $line) use (&$found): int {
                [$name, $value] = explode(':', $line, 2) + ['', ''];
                $found[strtolower(trim($name))] = trim($value);
                return strlen($line);
            },
        ];
        if ($body !== null) {
            $options[CURLOPT_POSTFIELDS] = $body;
        }
        // Of a private authority. WHMCS has no field for it, and gives some functions no product.
        $authorities = __DIR__ . "/{$this->host()}.pem";
        if (is_file($authorities)) {
            $options[CURLOPT_CAINFO] = $authorities;
        }
        curl_setopt_array($curl, $options);
        $text = curl_exec($curl);
        $status = (int) curl_getinfo($curl, CURLINFO_RESPONSE_CODE);
        $number = curl_errno($curl);
        $fault = $text === false ? "The mail server does not answer: " . curl_error($curl) . '.' : '';
        $final = $number !== 0
            ? in_array($number, self::CERTIFICATE_ERRORS, true)
            : !in_array($status, self::RETRIED, true);
        return [$status, $found, (string) $text, $fault, $final];
    }

    private function host(): string
    {
        $host = trim((string) ($this->params['serverhostname'] ?? ''));
        $host = $host !== '' ? $host : trim((string) ($this->params['serverip'] ?? ''));
        if ($host === '' || preg_match('/[^A-Za-z0-9.:_-]/', $host)) {
            throw new IredapiError('The server entry in WHMCS has no valid hostname.');
        }
        return $host;
    }

    /** The address of the server entry: https, or http on this very machine. */
    private function address(): string
    {
        $host = $this->host();
        $secure = filter_var($this->params['serversecure'] ?? false, FILTER_VALIDATE_BOOLEAN);
        if (!$secure && !in_array($host, ['localhost', '127.0.0.1', '::1'], true)) {
            throw new IredapiError(
                'The token would be sent unencrypted: tick "Secure" in the server entry of WHMCS.'
            );
        }
        $port = (int) ($this->params['serverport'] ?? 0);
        $host = str_contains($host, ':') ? "[$host]" : $host;
        return ($secure ? 'https' : 'http') . "://$host" . ($port > 0 ? ":$port" : '');
    }

    /** What a refusal means, with its code and the names of wrong parameters. */
    private function sentence(array $answer): string
    {
        $code = (string) ($answer['_msg'] ?? '');
        $parts = [self::MEANINGS[$code] ?? 'the mail server refused this'];
        foreach ($answer['_errors'] ?? [] as $error) {
            $said = array_filter([$error['code'] ?? '', $error['detail'] ?? '']);
            $parts[] = ($error['param'] ?? '') . ': ' . implode(', ', $said);
        }
        if (is_string($answer['_detail'] ?? null)) {
            $parts[] = rtrim($answer['_detail'], '.');
        }
        return ucfirst(implode('; ', $parts)) . " ($code).";
    }

    private function masked(?array $form): ?array
    {
        return isset($form['password']) ? ['password' => '***'] + $form : $form;
    }

    /** Show the admin's address as the service's user name in WHMCS. */
    private function showAdmin(string $admin): void
    {
        try {
            Capsule::table('tblhosting')->where('id', $this->serviceId())->update(['username' => $admin]);
        } catch (Throwable $error) {
            $this->log("username $admin", $error->getMessage(), '');
        }
    }

    /** A domain as the service names it, and as a customer may have typed it. */
    private function spellings(string $domain): array
    {
        $typed = function_exists('idn_to_utf8') ? idn_to_utf8($domain) : false;
        return array_unique($typed === false ? [$domain] : [$domain, $typed]);
    }

    private function log(string $request, string $response, mixed $processed): void
    {
        $secrets = array_filter(array_map(
            fn (string $name): string => trim((string) ($this->params[$name] ?? '')),
            ['password', 'serverpassword', 'serveraccesshash']
        ));
        logModuleCall('iredapi', $this->action, $request, $response, $processed, array_values($secrets));
    }
}
