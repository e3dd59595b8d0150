package aggregator

import (
	"net/http"
	"path/filepath"
	"strconv"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/he/params"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/systemd/disk"
	"github.com/anchorhold/anchorhold/systemd/listen"
)

// boards adds the routes of set-ups and shares.
func (a *Aggregator) boards(mux *http.ServeMux, g gate) {
	mux.HandleFunc("POST /v1/setups", func(w http.ResponseWriter, r *http.Request) {
		signed, release, err := a.readSmall(w, r)
		if err == nil {
			defer release()
			if err = a.board.AddSetup(signed); err == nil {
				reply(w, http.StatusOK, struct{}{})
				return
			}
		}
		a.refuse(w, r, err)
	})
	a.route(mux, "GET /v1/setups/{id}", g.readsSetup(func(w http.ResponseWriter, r *http.Request, id digest.RoundID) error {
		return a.sendFile(w, r, a.board.SetupPath(id), ReasonUnknownSetup)
	}))
	a.route(mux, "POST /v1/setups/{id}/messages", g.readsSetup(func(w http.ResponseWriter, r *http.Request, id digest.RoundID) error {
		return a.takeSmall(w, r, func(b []byte) error { return a.board.AddMessage(id, b, a.speaker(r)) })
	}))
	a.route(mux, "GET /v1/setups/{id}/messages/{kind}/{from}/{to}", g.readsSetup(func(w http.ResponseWriter, r *http.Request, id digest.RoundID) error {
		path, err := a.board.MessagePath(id, r.PathValue("kind"), r.PathValue("from"), r.PathValue("to"))
		if err != nil {
			return err
		}
		return a.sendFile(w, r, path, ReasonNoMessage)
	}))
	a.route(mux, "PUT /v1/rounds/{id}/shares/{from}/manifest", g.reads(federation.ReadSums, a.beginShare))
	a.route(mux, "PUT /v1/rounds/{id}/shares/{from}/blocks", g.reads(federation.ReadSums, a.receiveShare))
	for _, name := range []string{FileManifest, FileBlocks} {
		a.route(mux, "GET /v1/rounds/{id}/shares/{from}/"+name, g.reads(federation.ReadSums, func(w http.ResponseWriter, r *http.Request, id digest.RoundID) error {
			_, dir, err := a.shareOf(r, id)
			if err != nil {
				return err
			}
			return a.sendFile(w, r, filepath.Join(dir, name), ReasonNoShare)
		}))
	}
}

func (a *Aggregator) shareOf(r *http.Request, id digest.RoundID) (*round, string, error) {
	held, err := a.round(id)
	if err != nil {
		return nil, "", err
	}
	dir, err := ShareDir(held.dir, r.PathValue("from"))
	return held, dir, err
}

func (a *Aggregator) receiveShare(w http.ResponseWriter, r *http.Request, id digest.RoundID) error {
	held, dir, err := a.shareOf(r, id)
	if err != nil {
		return err
	}
	party, err := strconv.Atoi(filepath.Base(dir))
	if err != nil || held.def.Parties == nil || party < 1 || party > len(held.def.Parties.Agents) {
		return refusal.New(ReasonNoShare, "round %s has no party %d", id, party)
	}
	if err := a.speaker(r)(held.def.Parties.Agents[party-1]); err != nil {
		return err
	}
	release, err := a.alone(dir)
	if err != nil {
		return err
	}
	defer release()
	if !disk.Exists(filepath.Join(dir, FileBlocks)) {
		room, err := a.disk.claim(int64(federation.BlockCount(held.def.Length, held.set.ValuesPerBlock())) * params.ShareBlockBytes)
		if err != nil {
			return err
		}
		defer room.release()
	}
	if err = ReceiveShare(dir, id, a.patient(w, r)); err == nil {
		reply(w, http.StatusOK, struct{}{})
	}
	return err
}

func (a *Aggregator) beginShare(w http.ResponseWriter, r *http.Request, id digest.RoundID) error {
	held, dir, err := a.shareOf(r, id)
	if err != nil {
		return err
	}
	ticket, _, err := a.ticket(held)
	if err != nil {
		return err
	}
	limit := federation.MaxManifestBytes(federation.BlockCount(held.def.Length, held.set.ValuesPerBlock()))
	room, err := a.disk.claim(limit)
	if err != nil {
		return err
	}
	defer room.release()
	body, release, err := listen.ReadBody(w, r, limit)
	if err == nil {
		defer release()
		err = a.board.BeginShare(dir, held.def, digest.Of(ticket), body, a.speaker(r))
	}
	if err == nil {
		reply(w, http.StatusOK, struct{}{})
	}
	return err
}
