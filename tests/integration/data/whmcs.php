<?php
/**
 * What WHMCS gives a provisioning module, as far as its public documentation describes it.
 *
 * WHMCS is proprietary, so the real one cannot be here: the constant WHMCS, the function
 * logModuleCall, and of Capsule (Laravel's query builder) what the documentation of UsageUpdate
 * shows. The module itself and the service that it calls are the real ones.
 *
 * Reads {"calls": [[function, parameters], …], "rows": […]} and prints results, log and rows.
 */

namespace WHMCS\Database {
    final class Capsule
    {
        /** @var array<string, array<int, array<string, mixed>>> */
        public static array $tables = [];

        public static function table(string $name): Query
        {
            return new Query($name);
        }

        public static function raw(string $expression): string
        {
            return "raw $expression";
        }
    }

    final class Query
    {
        private array $conditions = [];

        public function __construct(private readonly string $table)
        {
        }

        public function where(string $column, mixed $value): self
        {
            $this->conditions[$column] = $value;
            return $this;
        }

        public function update(array $values): int
        {
            $number = 0;
            foreach (Capsule::$tables[$this->table] as &$row) {
                foreach ($this->conditions as $column => $value) {
                    // As MySQL compares by default.
                    if (strcasecmp((string) $row[$column], (string) $value) !== 0) {
                        continue 2;
                    }
                }
                foreach ($values as $column => $value) {
                    if (!array_key_exists($column, $row)) {
                        throw new \RuntimeException("Unknown column '$column'");
                    }
                    $row[$column] = $value;
                }
                $number++;
            }
            return $number;
        }
    }
}

namespace {
    use WHMCS\Database\Capsule;

    const WHMCS = true;
    $logged = [];

    function logModuleCall($module, $action, $request, $response, $processed, $replaced): void
    {
        global $logged;
        $logged[] = compact('module', 'action', 'request', 'response', 'processed', 'replaced');
    }

    require $argv[1];

    $given = json_decode(stream_get_contents(STDIN), true, 512, JSON_THROW_ON_ERROR);
    Capsule::$tables['tblhosting'] = $given['rows'];
    $results = [];
    foreach ($given['calls'] as [$function, $parameters]) {
        $results[] = "iredapi_$function"($parameters);
    }
    $rows = Capsule::$tables['tblhosting'];
    echo json_encode(compact('results', 'logged', 'rows'), JSON_THROW_ON_ERROR);
}
