-- The tables of Gitea 1.22 that the stand-in uses, with those of their columns that it or ops reads. Types and NOT NULL are
-- Gitea's, as recorded; the references, which remove what belongs to a removed row, are the stand-in's own.
CREATE TABLE "user" (
    id bigserial PRIMARY KEY, lower_name varchar(255) UNIQUE NOT NULL, name varchar(255) UNIQUE NOT NULL,
    full_name varchar(255) DEFAULT '', email varchar(255) NOT NULL, passwd varchar(255) NOT NULL DEFAULT '',
    passwd_hash_algo varchar(255) NOT NULL DEFAULT 'argon2', salt varchar(32) DEFAULT '',
    must_change_password boolean NOT NULL DEFAULT false, login_name varchar(255) DEFAULT '',
    login_source bigint NOT NULL DEFAULT 0, type integer DEFAULT 0, description varchar(255) DEFAULT '',
    is_active boolean DEFAULT true, is_admin boolean DEFAULT false, is_restricted boolean NOT NULL DEFAULT false,
    prohibit_login boolean NOT NULL DEFAULT false, visibility integer NOT NULL DEFAULT 0,
    created_unix bigint, updated_unix bigint, last_login_unix bigint);
CREATE TABLE repository (
    id bigserial PRIMARY KEY, owner_id bigint, owner_name varchar(255), lower_name varchar(255) NOT NULL,
    name varchar(255) NOT NULL, description text DEFAULT '', default_branch varchar(255), is_private boolean,
    is_empty boolean, is_archived boolean DEFAULT false, status integer NOT NULL DEFAULT 0,
    size bigint NOT NULL DEFAULT 0, created_unix bigint, updated_unix bigint, UNIQUE (owner_id, lower_name));
CREATE TABLE repo_unit (
    id bigserial PRIMARY KEY, repo_id bigint REFERENCES repository ON DELETE CASCADE, type integer, config text,
    created_unix bigint, everyone_access_mode integer NOT NULL DEFAULT 0);
CREATE TABLE branch (
    id bigserial PRIMARY KEY, repo_id bigint REFERENCES repository ON DELETE CASCADE, name varchar(255) NOT NULL,
    commit_id varchar(255), commit_message text, pusher_id bigint, is_deleted boolean DEFAULT false,
    deleted_by_id bigint, deleted_unix bigint, commit_time bigint, created_unix bigint, updated_unix bigint,
    UNIQUE (repo_id, name));
CREATE TABLE issue (
    id bigserial PRIMARY KEY, repo_id bigint, "index" bigint, poster_id bigint, name varchar(255), content text,
    is_closed boolean DEFAULT false, is_pull boolean DEFAULT false, created_unix bigint, updated_unix bigint,
    UNIQUE (repo_id, "index"));
CREATE TABLE issue_index (group_id bigint PRIMARY KEY, max_index bigint);
CREATE TABLE public_key (
    id bigserial PRIMARY KEY, owner_id bigint NOT NULL, name varchar(255) NOT NULL,
    fingerprint varchar(255) UNIQUE NOT NULL, content text NOT NULL, mode integer NOT NULL DEFAULT 2,
    type integer NOT NULL DEFAULT 1, created_unix bigint, updated_unix bigint);
CREATE TABLE access_token (
    id bigserial PRIMARY KEY, uid bigint, name varchar(255), token_hash varchar(255), token_salt varchar(255),
    token_last_eight varchar(255), scope varchar(255), created_unix bigint, updated_unix bigint, UNIQUE (uid, name));
CREATE TABLE action_runner_token (
    id bigserial PRIMARY KEY, token varchar(255) UNIQUE, owner_id bigint, repo_id bigint, is_active boolean,
    created bigint, updated bigint, deleted bigint);
CREATE TABLE comment (
    id bigserial PRIMARY KEY, type integer DEFAULT 0, poster_id bigint,
    issue_id bigint REFERENCES issue ON DELETE CASCADE, content text, created_unix bigint, updated_unix bigint);
CREATE TABLE label (
    id bigserial PRIMARY KEY, repo_id bigint REFERENCES repository ON DELETE CASCADE, name varchar(255),
    description varchar(255), color varchar(10));
CREATE TABLE issue_label (
    id bigserial PRIMARY KEY, issue_id bigint REFERENCES issue ON DELETE CASCADE,
    label_id bigint REFERENCES label ON DELETE CASCADE);
CREATE TABLE release (
    id bigserial PRIMARY KEY, repo_id bigint REFERENCES repository ON DELETE CASCADE, publisher_id bigint,
    tag_name varchar(255), lower_tag_name varchar(255), target varchar(255), title varchar(255), sha1 varchar(64),
    num_commits bigint, note text, is_draft boolean NOT NULL DEFAULT false, is_prerelease boolean NOT NULL DEFAULT false,
    is_tag boolean NOT NULL DEFAULT false, created_unix bigint, UNIQUE (repo_id, tag_name));
CREATE TABLE attachment (
    id bigserial PRIMARY KEY, uuid uuid UNIQUE, repo_id bigint REFERENCES repository ON DELETE CASCADE,
    issue_id bigint DEFAULT 0, release_id bigint DEFAULT 0, uploader_id bigint DEFAULT 0, name varchar(255), size bigint,
    created_unix bigint);
CREATE TABLE pull_request (
    id bigserial PRIMARY KEY, issue_id bigint REFERENCES issue ON DELETE CASCADE, head_branch varchar(255),
    base_branch varchar(255));
CREATE TABLE lfs_meta_object (
    id bigserial PRIMARY KEY, oid varchar(255) NOT NULL, size bigint NOT NULL,
    repository_id bigint NOT NULL REFERENCES repository ON DELETE CASCADE, UNIQUE (oid, repository_id));
-- Gitea has packages in six tables.
CREATE TABLE package_file (
    id bigserial PRIMARY KEY, owner_id bigint NOT NULL REFERENCES "user", package varchar(255) NOT NULL,
    version varchar(255) NOT NULL, name varchar(255) NOT NULL, hash_sha256 varchar(64) NOT NULL,
    UNIQUE (owner_id, package, version, name));
