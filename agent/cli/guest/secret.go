package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/dial"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/spf13/cobra"
)

// The words of "secret get".
const (
	secretGetUse   = "get NAME"
	secretGetShort = "Fetch a secret from the agent in this guest"
	secretGetLong  = `Fetches a secret that the agent's configuration lists under secrets, with this user or a
group of this user. That a user may connect to the agent is not enough.

The secret goes to standard output, which must not be a terminal, or with --out into a new
file that this user alone can read. With --wait the command waits for the agent to get a
lease. The exit status is 3 if the agent refuses.

--json needs --out: it prints {"name", "version", "file"}, and the secret is in the file alone.
A secret is any bytes, and is never part of a JSON object.`
	secretGetExample   = "  anchorhold secret get db-password --wait 60s | psql-login\n  anchorhold secret get backup.key --out /run/backup/key"
	secretGetNeeds     = "the secret's name in the agent's configuration"
	secretGetFlagOut   = "new file for the secret, mode 0600 (standard output if omitted)"
	secretGetFlagWait  = "how long to wait for a lease, at most 290s"
	secretGetFlagForce = "write the secret to a terminal"
	secretGetTerminal  = "standard output is a terminal: give --out FILE or a pipe, or --force to show the secret"
	secretGetNoJSON    = "--json needs --out FILE, into which the secret goes: it is never part of a JSON object"
	secretGetWait      = "--wait %s is outside 0 to %s"
	secretGetSize      = "the agent announced a secret of %d bytes, want 1 to %d"
	secretGetShorter   = "the agent's connection ended before the whole secret arrived: %w"
	secretGetWritten   = "%s is written to %s\n"
)

const (
	// maxSecretWait is what the agent grants.
	maxSecretWait = 290 * time.Second
	// maxSecretBytes is more than a release carries.
	maxSecretBytes = 64 << 10
)

// secretGetOptions are the flags of "secret get".
type secretGetOptions struct {
	out   string        // --out
	wait  time.Duration // --wait
	force bool          // --force
}

// NewSecretGet is the command "secret get", for the family "secret".
func NewSecretGet(inv *cli.Invocation) *cobra.Command {
	var o secretGetOptions
	c := &cobra.Command{Use: secretGetUse, Short: secretGetShort, Long: secretGetLong, Example: secretGetExample, Args: cli.Exactly(1, secretGetNeeds), RunE: inv.RunE(o.run)}
	c.Flags().StringVar(&o.out, "out", "", secretGetFlagOut)
	c.Flags().DurationVar(&o.wait, "wait", 0, secretGetFlagWait)
	c.Flags().BoolVar(&o.force, "force", false, secretGetFlagForce)
	dial.AgentFlag(inv, c)
	return c
}

// secretWritten is the answer in JSON.
type secretWritten struct {
	Name    string `json:"name"`
	Version uint64 `json:"version"`
	File    string `json:"file"`
}

func (o *secretGetOptions) run(ctx context.Context, inv *cli.Invocation, args []string) error {
	switch {
	case o.wait < 0 || o.wait > maxSecretWait:
		return cli.Usage(fmt.Errorf(secretGetWait, o.wait, maxSecretWait))
	case o.out == "" && inv.AsJSON:
		return cli.Usage(errors.New(secretGetNoJSON))
	case o.out == "" && !o.force && inv.ShowsOutput():
		return cli.Usage(errors.New(secretGetTerminal))
	case o.out != "":
		if err := cli.CheckNew(o.out); err != nil {
			return err
		}
	}
	secret, version, err := o.fetch(ctx, inv, args[0])
	if err != nil {
		return err
	}
	defer secret.Wipe()
	if o.out == "" {
		return secret.Use(func(b []byte) error { _, err := inv.Out.Write(b); return err })
	}
	if err := secret.Use(func(b []byte) error { return cli.WriteNew(o.out, b, 0o600) }); err != nil {
		return err
	}
	return inv.Print(secretWritten{args[0], version, o.out}, func(w io.Writer) { fmt.Fprintf(w, secretGetWritten, args[0], o.out) })
}

// fetch asks the agent for the secret.
func (o *secretGetOptions) fetch(ctx context.Context, inv *cli.Invocation, name string) (_ *keybuf.Buffer, version uint64, err error) {
	// A part of a second counts as a whole one.
	query := url.Values{"wait": {strconv.Itoa(int((o.wait + time.Second - 1) / time.Second))}}
	resp, err := dial.Agent(inv.Agent).Do(ctx, http.MethodGet, "/v1/secrets/"+url.PathEscape(name)+"?"+query.Encode(), nil)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	if resp.ContentLength < 1 || resp.ContentLength > maxSecretBytes {
		return nil, 0, fmt.Errorf(secretGetSize, resp.ContentLength, maxSecretBytes)
	}
	secret, err := keybuf.New(int(resp.ContentLength))
	if err != nil {
		return nil, 0, err
	}
	if _, err := io.ReadFull(resp.Body, secret.Bytes()); err != nil {
		secret.Wipe()
		return nil, 0, fmt.Errorf(secretGetShorter, err)
	}
	version, err = strconv.ParseUint(resp.Header.Get("Anchorhold-Secret-Version"), 10, 64)
	if err != nil {
		secret.Wipe()
		return nil, 0, fmt.Errorf("the agent named no version: %w", err)
	}
	return secret, version, nil
}
