/* A device behind an SDF library (GM/T 0018), for tests: SM4 by libcrypto, keys in memory alone.
   SIMULATED_SDF names a fault: "no-device", "no-session" or "broken". */
#include <stdlib.h>
#include <string.h>

typedef struct evp_cipher_st EVP_CIPHER;
typedef struct evp_cipher_ctx_st EVP_CIPHER_CTX;
extern const EVP_CIPHER *EVP_sm4_ecb(void), *EVP_sm4_cbc(void);
extern EVP_CIPHER_CTX *EVP_CIPHER_CTX_new(void);
extern void EVP_CIPHER_CTX_free(EVP_CIPHER_CTX *);
extern int EVP_CipherInit_ex(EVP_CIPHER_CTX *, const EVP_CIPHER *, void *, const unsigned char *,
                             const unsigned char *, int);
extern int EVP_CIPHER_CTX_set_padding(EVP_CIPHER_CTX *, int);
extern int EVP_CipherUpdate(EVP_CIPHER_CTX *, unsigned char *, int *, const unsigned char *, int);
extern int RAND_bytes(unsigned char *, int);

#define BROKEN 0x01000004
#define NO_DEVICE 0x01000005
#define NO_SESSION 0x01000006
#define NO_KEY 0x01000008
#define NO_ALGORITHM 0x01000009
#define BAD_LENGTH 0x01000010
#define KEKS 2
#define SESSIONS_MAX 4

static unsigned char keks[KEKS][16] = {"first key of it", "other key of it"};
static int opened, sessions, keys;

static int fault(const char *name)
{
    const char *named = getenv("SIMULATED_SDF");
    return named && strcmp(named, name) == 0;
}

static int turn(const EVP_CIPHER *cipher, const unsigned char *key, const unsigned char *iv,
                const unsigned char *in, unsigned length, unsigned char *out, int encrypt)
{
    EVP_CIPHER_CTX *state = EVP_CIPHER_CTX_new();
    int written = 0;
    EVP_CipherInit_ex(state, cipher, NULL, key, iv, encrypt);
    EVP_CIPHER_CTX_set_padding(state, 0);
    EVP_CipherUpdate(state, out, &written, in, (int)length);
    EVP_CIPHER_CTX_free(state);
    return written == (int)length ? 0 : BROKEN;
}

int simulated_open(void) { return opened + sessions + keys; }

int SDF_OpenDevice(void **device)
{
    if (fault("no-device"))
        return NO_DEVICE;
    opened++;
    *device = malloc(1);
    return 0;
}

int SDF_CloseDevice(void *device)
{
    opened--;
    free(device);
    return 0;
}

int SDF_OpenSession(void *device, void **session)
{
    if (!device || sessions >= SESSIONS_MAX || fault("no-session"))
        return NO_SESSION;
    sessions++;
    *session = malloc(1);
    return 0;
}

int SDF_CloseSession(void *session)
{
    sessions--;
    free(session);
    return 0;
}

int SDF_GenerateKeyWithKEK(void *session, unsigned bits, unsigned algorithm, unsigned kek,
                           unsigned char *wrapped, unsigned *length, void **key)
{
    unsigned char *made;
    if (!session || kek < 1 || kek > KEKS)
        return NO_KEY;
    if (algorithm != 0x401)
        return NO_ALGORITHM;
    if (bits != 128 || *length < 16)
        return BAD_LENGTH;
    made = malloc(16);
    RAND_bytes(made, 16);
    keys++;
    *key = made;
    *length = 16;
    return turn(EVP_sm4_ecb(), keks[kek - 1], NULL, made, 16, wrapped, 1);
}

int SDF_ImportKeyWithKEK(void *session, unsigned algorithm, unsigned kek, unsigned char *wrapped,
                         unsigned length, void **key)
{
    unsigned char *made;
    if (!session || kek < 1 || kek > KEKS)
        return NO_KEY;
    if (algorithm != 0x401)
        return NO_ALGORITHM;
    if (length != 16)
        return BAD_LENGTH;
    made = malloc(16);
    keys++;
    *key = made;
    return turn(EVP_sm4_ecb(), keks[kek - 1], NULL, wrapped, 16, made, 0);
}

int SDF_DestroyKey(void *session, void *key)
{
    (void)session;
    keys--;
    free(key);
    return 0;
}

static int crypt(void *key, unsigned algorithm, unsigned char *iv, unsigned char *in,
                 unsigned length, unsigned char *out, unsigned *written, int encrypt)
{
    unsigned char last[16];
    int code;
    if (algorithm != 0x402)
        return NO_ALGORITHM;
    if (length % 16 || !length)
        return BAD_LENGTH;
    if (fault("broken"))
        return BROKEN;
    memcpy(last, in + length - 16, 16);
    code = turn(EVP_sm4_cbc(), key, iv, in, length, out, encrypt);
    memcpy(iv, encrypt ? out + length - 16 : last, 16);
    *written = length;
    return code;
}

int SDF_Encrypt(void *session, void *key, unsigned algorithm, unsigned char *iv, unsigned char *in,
                unsigned length, unsigned char *out, unsigned *written)
{
    return session ? crypt(key, algorithm, iv, in, length, out, written, 1) : NO_SESSION;
}

int SDF_Decrypt(void *session, void *key, unsigned algorithm, unsigned char *iv, unsigned char *in,
                unsigned length, unsigned char *out, unsigned *written)
{
    return session ? crypt(key, algorithm, iv, in, length, out, written, 0) : NO_SESSION;
}
