package rounds

import (
	"testing"

	"github.com/anchorhold/anchorhold/keybroker/database/databasetest"
)

// server is a real PostgreSQL server of this test alone.
type server struct{ *databasetest.Server }

func (s *server) open(t testing.TB, schema string) Store {
	t.Helper()
	p, err := OpenPostgres(t.Context(), s.DSN(schema)+"&pool_max_conns=4")
	if err != nil {
		t.Fatal(err)
	}
	return p
}
