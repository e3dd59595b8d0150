package client_test

import (
	"context"
	"testing"

	"github.com/anchorhold/anchorhold/keybroker/brokertest"
)

func TestAcquire(t *testing.T) {
	f := brokertest.New(t)
	lease, err := f.Client(nil).Acquire(context.Background(), []string{brokertest.Resource})
	if err != nil {
		t.Fatal(err, f.Logs.String(), f.Records())
	}
	defer lease.Wipe()
	if string(lease.Keys[brokertest.Resource].Key.Bytes()) != brokertest.Secret {
		t.Error("another key arrived")
	}
}
