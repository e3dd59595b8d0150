package model

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"net"
	"path/filepath"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/he/params"
	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/identity/idfile"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/statedir"
)

// agent is a key with a lease chain.
type agent = federationtest.Agent

// stolen is a broker's whole state as it was in epoch 1, and that epoch's key out of it.
type stolen struct {
	begin     time.Time // of the world
	state     string
	key       *identity.Private
	statement []byte
	epoch     protocol.EpochStatement
}

// copyForTheft keeps the state that Eve will get. The first epoch's files are gone once
// it is retired.
func (w *world) copyForTheft() {
	w.Helper()
	w.stolen.begin, w.stolen.state = w.clock.now(), filepath.Join(w.TempDir(), "stolen")
	if err := copyState(string(w.broker.made.Layout), w.stolen.state); err != nil {
		w.Fatal(err)
	}
}

// steal takes the steps of whoever has the stolen key.
func (w *world) steal(s Step, r *round) error {
	w.Helper()
	switch s.Verb {
	case "steal":
		w.open1()
		return nil
	case "forge-round":
		return w.forgeRound(s.Arg("to"))
	case "forge-ticket":
		return w.agg.SetTicket(r.Round.ID, w.forgedTicket(*r))
	case "forge-contribution":
		u := w.contribution(*r, w.guests[eve.name], w.forgedLease(*r))
		_, err := w.agg.Begin(r.Round.ID, u.manifest)
		return err
	case "forge-admission":
		return w.admit(r, w.contribution(*r, w.guests[eve.name], w.forgedLease(*r)).signed)
	case "forge-result":
		return w.agg.SetResult(r.Round.ID, w.result(*r, w.forgedLease(*r), 2))
	case "forge-finish":
		_, err := w.broker.op.FinishRound(w.Context(), r.Round.ID, w.result(*r, w.forgedLease(*r), 2))
		return err
	case "forge-receipt":
		return w.receipt(w.forgedLease(*r), 1, 2)
	case "pose-as-broker":
		return w.pose(w.guests[s.Arg("to")])
	}
	w.Fatalf("unknown step %q", s.Verb)
	return nil
}

// open1 reads the key and the statement of epoch 1 out of the stolen state.
func (w *world) open1() {
	w.Helper()
	dir := statedir.Layout(w.stolen.state).Epochs()
	var err error
	if w.stolen.key, err = idfile.Read(filepath.Join(dir, "00000001.key"), w.broker.unlock()); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(w.stolen.key.Wipe)
	w.stolen.statement = w.read(filepath.Join(dir, "00000001.statement"))
	if w.stolen.epoch, err = protocol.VerifyEpoch(w.stolen.statement, w.roots()); err != nil {
		w.Fatal(err)
	}
}

// backdated is the latest time that the stolen key may name, or now where its epoch has
// not ended.
func (w *world) backdated() protocol.Time { return min(w.now(), w.stolen.epoch.NotAfter-1) }

// forgedLease is a lease of Eve's that gives her everything.
func (w *world) forgedLease(r round) agent {
	w.Helper()
	eve := agent{Key: w.guests[eve.name].Key}
	at := w.backdated()
	c := protocol.LeaseCertificate{Broker: w.stolen.epoch.Broker, Epoch: 1, AgentKey: eve.Key.Public(), Kind: evidence.KindSNP, EvidenceDigest: [32]byte{8},
		ImageID: bob.name, Tenant: bob.tenant,
		Grants:   []protocol.Granted{{Resource: federation.ResourceOf(r.Round.ID), Version: 1, Roles: protocol.RoleContribute | protocol.RoleDecrypt | protocol.RoleParty}, {Resource: "one/model-1", Version: 1, Subject: modelID(1), Roles: protocol.RoleServe}},
		PolicyID: "two-tenants", PolicyVersion: 1, NotBefore: at - 1000, NotAfter: at.Add(2 * tick)}
	c.Registers, c.Image = bob.started(w.T)
	signed, err := protocol.SignLease(w.stolen.key, c)
	if err != nil {
		w.Fatal(err)
	}
	if eve.Chain, err = protocol.MarshalLeaseChain(w.stolen.statement, signed); err != nil {
		w.Fatal(err)
	}
	return eve
}

// forgeRound opens a round for tenant 1 whose key is Eve's.
func (w *world) forgeRound(to string) error {
	w.Helper()
	set, err := params.Lookup(params.Default)
	if err != nil {
		w.Fatal(err)
	}
	fw := federationtest.World{EpochKey: w.stolen.key, EpochSigned: w.stolen.statement, Epoch: w.stolen.epoch}
	_, signed, _ := fw.Round(w.T, 50, func(r *federation.Round) {
		_, err = rand.Read(r.ID[:])
		r.SetDigest, r.Opened = set.Digest(), w.backdated()
		r.Closes, r.Contributors = w.stolen.epoch.NotAfter, federationtest.Tenants(alice.tenant)
	})
	if err != nil {
		w.Fatal(err)
	}
	if to == "aggregator" {
		_, err = w.agg.AddRound(signed)
		return err
	}
	guest := w.guests[to]
	_, err = federation.VerifyRound(signed, w.roots(), protocol.AnyBroker(), protocol.Live(protocol.AtLeast(guest.lowest), w.now()))
	return err
}

// forgedTicket closes a round over the contributions that are at the aggregator, of which
// Eve has the sum made.
func (w *world) forgedTicket(r round) []byte {
	w.Helper()
	signed, err := federation.SignTicket(w.stolen.key, w.stolen.statement, federation.Ticket{Round: r.Round.ID, RoundDigest: digest.Of(r.Signed),
		Broker: w.stolen.epoch.Broker, Epoch: 1, Cohort: digest.Digest{1}, Count: 2, TotalWeight: 2, Sum: digest.Digest{2}, Time: w.backdated()})
	if err != nil {
		w.Fatal(err)
	}
	return signed
}

// pose answers a guest as the stolen broker, at a time of its epoch, whatever epoch the
// guest says that it has seen. Its TLS certificate is stolen, too.
func (w *world) pose(victim *running) error {
	w.Helper()
	layout := statedir.Layout(w.stolen.state)
	pair, err := tls.LoadX509KeyPair(layout.Certificate(), layout.TLSKey())
	if err != nil {
		w.Fatal(err)
	}
	config, err := hybridtls.ServerConfig(pair, hybridtls.ProfileDefault)
	if err != nil {
		w.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.Fatal(err)
	}
	posed := make(chan error, 1)
	go func() { posed <- w.challenge(listener, config) }()
	defer func() {
		listener.Close() // the broker that poses has served whom it wanted
		if err := <-posed; err != nil {
			w.Error(err)
		}
	}()
	return victim.acquire(w.T, listener.Addr().String(), w.broker.made, victim.resource(0))
}

// challenge takes one guest's M1 and sends M2 under the stolen key.
func (w *world) challenge(listener net.Listener, config *tls.Config) error {
	raw, err := listener.Accept()
	if err != nil {
		return err
	}
	defer raw.Close()
	conn, err := hybridtls.Server(context.Background(), raw, config)
	if err != nil {
		return err
	}
	var hello protocol.Hello
	_, m1, err := protocol.ReadFrame(conn, hello.Type())
	if err != nil {
		return err
	}
	m2 := &protocol.Challenge{Choice: protocol.Choice{Version: protocol.Version2, Suite: protocol.Suite1, Kind: evidence.KindSNP},
		Versions: []protocol.Version{protocol.Version2}, Suites: []protocol.Suite{protocol.Suite1}, Kinds: []evidence.Kind{evidence.KindSNP},
		Epoch: w.stolen.statement, Window: 30 * time.Second, BrokerTime: w.backdated()}
	ekm, err := conn.ExporterOf(0)
	if err != nil {
		return err
	}
	if err := m2.Sign(w.stolen.key, ekm, protocol.HashMessage(m1)); err != nil {
		return err
	}
	frame, err := protocol.Marshal(m2)
	if err != nil {
		return err
	}
	_, err = conn.Write(frame)
	return errors.Join(err, conn.CloseWrite())
}
