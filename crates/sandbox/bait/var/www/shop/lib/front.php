<?php
final class Front
{
    public static function handle(string $uri, PDO $db): void
    {
        $path = parse_url($uri, PHP_URL_PATH) ?: '/';
        $page = $db->prepare('SELECT body FROM pages WHERE path = ?');
        $page->execute([$path]);
        echo $page->fetchColumn() ?: 'Not found';
    }
}
