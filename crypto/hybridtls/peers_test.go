package hybridtls

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// peer finds a program under $ANCHORHOLD_PEERS, or skips and says so.
func peer(t *testing.T, path ...string) string {
	t.Helper()
	dir := os.Getenv("ANCHORHOLD_PEERS")
	if dir == "" {
		t.Skip("SKIPPED: ANCHORHOLD_PEERS names no directory of foreign peers (`make peers` installs them)")
	}
	program := filepath.Join(append([]string{dir}, path...)...)
	if _, err := os.Stat(program); err != nil {
		t.Skipf("SKIPPED: the foreign peer %s is not installed (`make peers` installs it)", filepath.Join(path...))
	}
	return program
}

func onPath(t *testing.T, name string) string {
	t.Helper()
	program, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("SKIPPED: %s is not installed", name)
	}
	return program
}

// files writes the site's certificate and key where a peer can read them.
func (s *site) files(t *testing.T) (cert, key string) {
	t.Helper()
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, data := range map[string][]byte{cert: s.certPEM, key: s.keyPEM} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// said is what a foreign peer reports of its end.
type said struct {
	Error, Protocol, Version, Exporter string
}

const nodeClient = `
const tls = require('tls'), fs = require('fs');
const [port, ca, groups, alpn] = process.argv.slice(1);
const say = o => { console.log(JSON.stringify(o)); };
const o = {host: '127.0.0.1', port: +port, servername: 'localhost', ca: fs.readFileSync(ca), ALPNProtocols: [alpn]};
if (groups) o.ecdhCurve = groups;
const s = tls.connect(o, () => {
  say({protocol: s.alpnProtocol, version: s.getProtocol(), exporter: s.exportKeyingMaterial(48, 'EXPORTER-anchorhold-kbp-1').toString('hex')});
  s.end(); setImmediate(() => process.exit(0));
});
s.on('error', e => { say({error: e.code + ' ' + e.message}); process.exit(0); });
s.resume();
`

const nodeServer = `
const tls = require('tls'), fs = require('fs');
const [cert, key, groups, alpn] = process.argv.slice(1);
const o = {cert: fs.readFileSync(cert), key: fs.readFileSync(key), ALPNProtocols: [alpn]};
if (groups) o.ecdhCurve = groups;
const done = m => { console.log(JSON.stringify(m)); process.exit(0); };
const srv = tls.createServer(o, s => {
  const m = {protocol: s.alpnProtocol, version: s.getProtocol(), exporter: s.exportKeyingMaterial(48, 'EXPORTER-anchorhold-kbp-1').toString('hex')};
  s.on('error', () => {}); s.resume(); s.on('close', () => done(m));
});
srv.on('tlsClientError', e => done({error: e.code + ' ' + e.message}));
srv.listen(0, '127.0.0.1', () => console.log(srv.address().port));
`

const pyClient = `
import json, socket, sys
from OpenSSL import SSL
port, ca, groups, alpn = sys.argv[1:5]
ctx = SSL.Context(SSL.TLS_METHOD)
ctx.load_verify_locations(ca)
ctx.set_verify(SSL.VERIFY_PEER, lambda c, x, e, d, ok: ok)
ctx.set_alpn_protos([alpn.encode()])
s = SSL.Connection(ctx, socket.create_connection(('127.0.0.1', int(port))))
s.set_tlsext_host_name(b'localhost')
s.set_connect_state()
s.do_handshake()
print(json.dumps({'protocol': s.get_alpn_proto_negotiated().decode(), 'version': s.get_protocol_version_name(),
  'exporter': s.export_keying_material(b'EXPORTER-anchorhold-kbp-1', 48, None).hex()}))
s.shutdown()
`

const pyServer = `
import json, socket, sys
from OpenSSL import SSL
cert, key, groups, alpn = sys.argv[1:5]
ctx = SSL.Context(SSL.TLS_METHOD)
ctx.use_certificate_chain_file(cert)
ctx.use_privatekey_file(key)
ctx.set_alpn_select_callback(lambda c, offered: alpn.encode())
l = socket.create_server(('127.0.0.1', 0))
print(l.getsockname()[1], flush=True)
s = SSL.Connection(ctx, l.accept()[0])
s.set_accept_state()
s.do_handshake()
print(json.dumps({'protocol': s.get_alpn_proto_negotiated().decode(), 'version': s.get_protocol_version_name(),
  'exporter': s.export_keying_material(b'EXPORTER-anchorhold-kbp-1', 48, None).hex()}), flush=True)
`

// foreignPeer runs Node's or Python's OpenSSL as either end.
type foreignPeer struct {
	program        []string
	flag           string
	client, server string
}

func foreignPeers(t *testing.T, name string) foreignPeer {
	switch name {
	case "node":
		return foreignPeer{[]string{"node", "node_modules", ".bin", "node"}, "-e", nodeClient, nodeServer}
	case "pyopenssl":
		return foreignPeer{[]string{"venv", "bin", "python"}, "-c", pyClient, pyServer}
	}
	t.Fatalf("unknown peer %s", name)
	return foreignPeer{}
}

func (p foreignPeer) command(t *testing.T, script string, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return exec.CommandContext(ctx, peer(t, p.program...), append([]string{p.flag, script}, args...)...)
}

func checkPeer(t *testing.T, line []byte, c *Conn, group string) {
	t.Helper()
	var s said
	if err := json.Unmarshal(line, &s); err != nil {
		t.Fatalf("the peer said %q: %v", line, err)
	}
	exporter := c.Exporter()
	if s.Error != "" || s.Protocol != ALPN || s.Version != "TLSv1.3" || s.Exporter != hex.EncodeToString(exporter[:]) {
		t.Errorf("the peer saw %+v; our exporter is %x", s, exporter)
	}
	if c.Group() != group {
		t.Errorf("group %s, want %s", c.Group(), group)
	}
}

func TestForeignClients(t *testing.T) {
	for name, tc := range map[string]struct {
		peer, groups, alpn string
		profile            Profile
		group              string
		code               refusal.Reason
	}{
		"node by default":            {"node", "", ALPN, ProfileDefault, "X25519MLKEM768", ""},
		"node told the FIPS hybrid":  {"node", "SecP256r1MLKEM768", ALPN, ProfileFIPS, "SecP256r1MLKEM768", ""},
		"node by default, FIPS here": {"node", "", ALPN, ProfileFIPS, "", ReasonClassical},
		"node classical":             {"node", "X25519:P-256", ALPN, ProfileDefault, "", ReasonClassical},
		"node speaking http":         {"node", "", "h2", ProfileDefault, "", ReasonALPN},
		"pyopenssl by default":       {"pyopenssl", "", ALPN, ProfileDefault, "X25519MLKEM768", ""},
	} {
		t.Run(name, func(t *testing.T) {
			p, s := foreignPeers(t, tc.peer), newSite(t, tc.profile, tc.profile)
			cert, _ := s.files(t)
			address, done := s.listen(t)
			_, port, _ := net.SplitHostPort(address)
			out, err := p.command(t, p.client, port, cert, tc.groups, tc.alpn).Output()
			if err != nil {
				t.Fatalf("peer: %v %s", err, out)
			}
			got := <-done
			if tc.code != "" {
				refused(t, got.err, tc.code)
				if !strings.Contains(string(out), "error") {
					t.Errorf("the peer was not told: %s", out)
				}
				return
			}
			if got.err != nil {
				t.Fatal(got.err)
			}
			defer got.conn.Close()
			checkPeer(t, out, got.conn, tc.group)
		})
	}
}

func TestForeignServers(t *testing.T) {
	for name, tc := range map[string]struct {
		peer, groups, alpn string
		profile            Profile
		group              string
		code               refusal.Reason
	}{
		"node by default":            {"node", "", ALPN, ProfileDefault, "X25519MLKEM768", ""},
		"node, hello retry":          {"node", "SecP256r1MLKEM768", ALPN, ProfileDefault, "SecP256r1MLKEM768", ""},
		"node told the FIPS hybrid":  {"node", "SecP256r1MLKEM768", ALPN, ProfileFIPS, "SecP256r1MLKEM768", ""},
		"node by default, FIPS here": {"node", "", ALPN, ProfileFIPS, "", ReasonClassical},
		"node classical":             {"node", "X25519:P-256", ALPN, ProfileDefault, "", ReasonClassical},
		"node speaking http":         {"node", "", "h2", ProfileDefault, "", ReasonALPN},
		"pyopenssl by default":       {"pyopenssl", "", ALPN, ProfileDefault, "X25519MLKEM768", ""},
	} {
		t.Run(name, func(t *testing.T) {
			p, s := foreignPeers(t, tc.peer), newSite(t, tc.profile, tc.profile)
			cert, key := s.files(t)
			cmd := p.command(t, p.server, cert, key, tc.groups, tc.alpn)
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(stdout)
			if !lines.Scan() {
				t.Fatal("the peer named no port")
			}
			c, err := Dial(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", lines.Text()), s.client)
			if tc.code != "" {
				refused(t, err, tc.code)
			} else if err != nil {
				t.Fatal(err)
			} else {
				c.Close()
			}
			lines.Scan()
			if tc.code == "" {
				checkPeer(t, lines.Bytes(), c, tc.group)
			} else if !strings.Contains(lines.Text(), "error") {
				t.Errorf("the peer was not told: %s", lines.Text())
			}
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestSystemOpenSSLIsTold: the OpenSSL of this machine has no hybrid before 3.5.
func TestSystemOpenSSLIsTold(t *testing.T) {
	program := onPath(t, "openssl")
	if out, _ := exec.Command(program, "version").Output(); !strings.HasPrefix(string(out), "OpenSSL 3.0") && !strings.HasPrefix(string(out), "OpenSSL 1.") {
		t.Skipf("SKIPPED: %s is not a classical-only OpenSSL", strings.TrimSpace(string(out)))
	}
	s := newSite(t, ProfileDefault, ProfileDefault)
	for name, tc := range map[string]struct {
		arg   string
		code  refusal.Reason
		alert string
	}{
		"tls 1.3": {"-tls1_3", ReasonClassical, "alert handshake failure"},
		"tls 1.2": {"-tls1_2", ReasonVersion, "alert protocol version"},
	} {
		t.Run(name, func(t *testing.T) {
			address, done := s.listen(t)
			cmd := exec.CommandContext(t.Context(), program, "s_client", "-connect", address, "-alpn", ALPN, tc.arg)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), tc.alert) {
				t.Errorf("openssl: %v, want %q in\n%s", err, tc.alert, out)
			}
			refused(t, (<-done).err, tc.code)
		})
	}
}

// TestChromiumReachesTheALPNRefusal: a browser has the hybrid but another protocol.
func TestChromiumReachesTheALPNRefusal(t *testing.T) {
	program := onPath(t, "chromium")
	s := newSite(t, ProfileDefault, ProfileDefault)
	address, done := s.listen(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	profile, err := os.MkdirTemp("", "hybridtls-chromium-")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--user-data-dir="+profile,
		"--ignore-certificate-errors", "--timeout=5000", "--dump-dom", "https://"+address+"/")
	cmd.WaitDelay = 5 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // its children too
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	got := <-done
	cancel()
	_ = cmd.Wait()   // it was ended from here
	for range 1000 { // its last children may still be writing
		if err = os.RemoveAll(profile); err == nil {
			break
		}
	}
	if err != nil {
		t.Errorf("Chromium's profile stays behind: %v", err)
	}
	refused(t, got.err, ReasonALPN)
	if !strings.Contains(strings.Join(Offered(got.err), " "), "X25519MLKEM768") {
		t.Errorf("Chromium offered %v", Offered(got.err))
	}
}
