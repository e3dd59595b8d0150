package database

import (
	"errors"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/anchorhold/anchorhold/crypto/refusal/refusaltest"
)

var test = Schema{Of: "test", Versions: "test_schema", Refused: "test-refused", Newer: "test-newer", Conflict: "test-conflict"}

// Over a network, nothing but TLS 1.3 to a verified name, on no alternative either.
func TestDatabaseIsAuthenticated(t *testing.T) {
	for _, dsn := range []string{
		"postgres://u:secret@db.example/x",
		"postgres://u:secret@db.example/x?sslmode=disable",
		"postgres://u:secret@db.example/x?sslmode=allow",
		"postgres://u:secret@db.example/x?sslmode=prefer",
		"postgres://u:secret@db.example/x?sslmode=require",
		"postgres://u:secret@db.example/x?sslmode=verify-ca",
		"postgres://u:secret@/x?host=/run/postgresql,db.example",
	} {
		_, err := Open(t.Context(), dsn, test)
		refusaltest.Want(t, dsn, err, test.Refused)
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the password is in the error: %v", err)
		}
	}
	for _, dsn := range []string{"postgres://u@db.example/x?sslmode=verify-full", "postgres:///x?host=/run/postgresql", "postgres:///x?host=/a,/b",
		"postgres://a.example,b.example/x?sslmode=verify-full"} {
		cfg, err := pgxpool.ParseConfig(dsn)
		if err != nil {
			t.Fatal(err)
		}
		if err := test.authenticated(cfg.ConnConfig); err != nil {
			t.Errorf("%s: %v", dsn, err)
		}
		if c := cfg.ConnConfig.TLSConfig; c != nil && c.MinVersion != 0x0304 {
			t.Errorf("%s: TLS %x", dsn, c.MinVersion)
		}
	}
	_, err := Open(t.Context(), "postgres://u:secret@db.example:port/x", test)
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
	p, err := Open(t.Context(), "postgres:///x?"+url.Values{"host": {t.TempDir()}}.Encode(), test)
	if p != nil {
		defer p.Close()
	}
	if !errors.Is(err, ErrUnreachable) {
		t.Errorf("opened without a server: %v", err)
	}
}

// A database that has no place for anybody now is away; one that refuses this broker is not.
func TestWhichAnswersPass(t *testing.T) {
	for code, passes := range map[string]bool{
		"53300": true, "53100": true, "53200": true, // connections, disk, memory
		"57P01": true, "57P02": true, "57P03": true, // it ends, crashed, starts
		"28P01": false, "3D000": false, "42501": false, "57014": false, // password, database, privilege, statement
	} {
		dir := t.TempDir()
		l, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				server := pgproto3.NewBackend(c, c)
				if _, err := server.ReceiveStartupMessage(); err == nil {
					server.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: code, Message: "not now"})
					_ = server.Flush() // the client finds what is missing
				}
				c.Close()
			}
		}()
		p, err := Open(t.Context(), "postgres:///x?"+url.Values{"host": {dir}, "user": {"u"}, "port": {"5432"}}.Encode(), test)
		if p != nil {
			defer p.Close()
		}
		if err == nil || errors.Is(err, ErrUnreachable) != passes || (p != nil) != passes {
			t.Errorf("%s: %v, %v", code, p, err)
		}
	}
}
